//! The whole public sets, where a checkout has them beside it (`../shared/data` from the repository's root): every
//! line must be read, and the counts must be those of its README.

use std::path::{Path, PathBuf};

use preface_data::{Dataset, Form, Linearisation, ReadOptions};

/// The path of a file of the sets; prints what is skipped where there is none.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: ../shared/data/{name} is not there");
        return None;
    }
    Some(path)
}

/// File, form, lines and references.
const COUNTS: [(&str, Form, usize, usize); 16] = [
    ("e2e/train.jsonl", Form::E2eJsonl, 4862, 42061),
    ("e2e/dev.jsonl", Form::E2eJsonl, 547, 4672),
    ("e2e/test.jsonl", Form::E2eJsonl, 630, 4693),
    ("webnlg/train.jsonl", Form::WebnlgJsonl, 6940, 18102),
    ("webnlg/dev.jsonl", Form::WebnlgJsonl, 872, 2268),
    ("webnlg/test.jsonl", Form::WebnlgJsonl, 1862, 4928),
    ("dart/dev.jsonl", Form::DartJsonl, 2768, 6980),
    ("dart/test.jsonl", Form::DartJsonl, 5097, 12551),
    ("scitldr/train.jsonl", Form::Summary, 1992, 1992),
    ("scitldr/dev.jsonl", Form::Summary, 619, 1453),
    ("scitldr/test.jsonl", Form::Summary, 618, 1967),
    ("dialogsum/dev.jsonl", Form::Summary, 500, 500),
    ("dialogsum/test.jsonl", Form::Summary, 500, 1500),
    ("xsum-mini/train.jsonl", Form::Summary, 800, 800),
    ("xsum-mini/dev.jsonl", Form::Summary, 200, 200),
    ("xsum-mini/test.jsonl", Form::Summary, 200, 200),
];

#[test]
fn every_line_of_the_sets_is_read_and_counted_right() {
    for (name, form, lines, references) in COUNTS {
        let Some(path) = shared(name) else { continue };
        let data = Dataset::load(&path, &ReadOptions::default()).unwrap();
        assert_eq!((data.form, data.examples.len(), data.n_pair()), (form, lines, references), "{name}");
        assert_eq!(
            data.grouped().iter().map(|group| group.references.len()).sum::<usize>(),
            references,
            "{name}"
        );
    }
}

#[test]
fn the_published_e2e_csv_groups_to_the_inputs_of_the_jsonl_copy() {
    let (Some(csv), Some(jsonl)) = (shared("metrics/e2e/testset_w_refs.csv"), shared("e2e/test.jsonl"))
    else {
        return;
    };
    let csv = Dataset::load(csv, &ReadOptions::default()).unwrap();
    let jsonl = Dataset::load(jsonl, &ReadOptions::default()).unwrap();
    assert_eq!(csv.n_pair(), 4693);
    let inputs = |examples: &[preface_data::Example]| -> Vec<(String, usize)> {
        examples.iter().map(|example| (example.prompt.clone(), example.references.len())).collect()
    };
    assert_eq!(inputs(&csv.grouped()), inputs(&jsonl.examples));
}

/// `" ".join("| " + " : ".join(triple) for triple in triples)`, as the bench that compares with PEFT writes WebNLG.
#[test]
fn webnlg_prompts_equal_those_of_the_bench_workload() {
    let Some(path) = shared("webnlg/test.jsonl") else { return };
    let data = Dataset::load(&path, &ReadOptions::default()).unwrap();
    let of_2021 = ReadOptions { linearisation: Some(Linearisation::Webnlg2021), ..ReadOptions::default() };
    let of_2021 = Dataset::load(&path, &of_2021).unwrap();
    let text = fs_err::read_to_string(path).unwrap();
    for ((line, example), of_2021) in text.lines().zip(&data.examples).zip(&of_2021.examples) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let triples = line["triples"].as_array().unwrap().iter().map(|triple| {
            let parts: Vec<&str> =
                triple.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
            format!("| {}", parts.join(" : "))
        });
        let expected = triples.collect::<Vec<_>>().join(" ");
        assert_eq!(example.prompt, expected);
        assert_eq!(of_2021.prompt, format!(" {expected}"));
        assert_eq!(example.fields["category"], line["category"].as_str().unwrap());
    }
}
