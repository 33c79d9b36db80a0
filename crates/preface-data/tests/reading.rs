//! Every form read from a small file: what becomes prompt, references and fields.

use std::path::{Path, PathBuf};

use preface_data::{DataError, Dataset, Example, Form, Lexicalisations, Linearisation, ReadOptions};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn good() -> ReadOptions {
    ReadOptions { lexicalisations: Lexicalisations::Good, ..ReadOptions::default() }
}

fn load(name: &str, options: &ReadOptions) -> Dataset {
    Dataset::load(fixture(name), options).expect("the fixture can be read")
}

fn parse(text: &str) -> Dataset {
    Dataset::from_bytes("x.jsonl".as_ref(), text.as_bytes(), &ReadOptions::default())
        .expect("the text can be read")
}

/// Without place and fields, which differ between the forms of one set.
fn texts(examples: &[Example]) -> Vec<(&str, &[String])> {
    examples.iter().map(|example| (example.prompt.as_str(), example.references.as_slice())).collect()
}

#[test]
fn prompt_and_completion_are_taken_as_they_stand() {
    let data = parse(
        "\u{feff}{\"prompt\":\" a \",\"completion\":\" b\\n\",\"category\":\"X\",\"n\":2,\"z\":null}\r\n\r\n{\"prompt\":\"\",\"completion\":\"c\"}",
    );
    assert_eq!(data.form, Form::PromptCompletion);
    assert_eq!(data.linearisation, None);
    let [first, second] = data.examples.as_slice() else { panic!("{:?}", data.examples) };
    assert_eq!(
        (first.prompt.as_str(), first.references.as_slice(), first.line),
        (" a ", &[" b\n".to_owned()][..], 1)
    );
    assert_eq!(
        first.fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(),
        [("category", "X"), ("n", "2")]
    );
    assert_eq!((second.prompt.as_str(), second.line), ("", 3));
}

#[test]
fn references_stay_together_and_expand_to_one_pair_each() {
    let data = parse(r#"{"prompt":"a","references":["b","c"]}"#);
    assert_eq!(data.examples.len(), 1);
    let pairs: Vec<_> =
        data.pairs().map(|pair| (pair.prompt, pair.completion, pair.example, pair.line)).collect();
    assert_eq!(pairs, [("a", "b", 0, 1), ("a", "c", 0, 1)]);
    assert_eq!(data.n_pair(), 2);
}

#[test]
fn an_instruction_becomes_the_prompt_of_alpaca() {
    let with = parse(r#"{"instruction":"Translate.","input":"chat","output":"cat"}"#);
    assert_eq!(
        with.examples[0].prompt,
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
         response that appropriately completes the request.\n\n### Instruction:\nTranslate.\n\n### Input:\nchat\n\n\
         ### Response:"
    );
    let expected = "Below is an instruction that describes a task. Write a response that appropriately completes the \
                    request.\n\n### Instruction:\nSing.\n\n### Response:";
    for line in
        [r#"{"instruction":"Sing.","input":"","output":"la"}"#, r#"{"instruction":"Sing.","output":"la"}"#]
    {
        assert_eq!(parse(line).examples[0].prompt, expected);
    }
}

#[test]
fn documents_have_an_empty_prompt_and_stay_apart() {
    let data = parse("{\"text\":\"Once.\"}\n{\"text\":\"Twice.\"}");
    assert_eq!(data.form, Form::Text);
    assert_eq!(texts(&data.grouped()), [("", &["Once.".to_owned()][..]), ("", &["Twice.".to_owned()][..])]);
}

#[test]
fn a_summary_is_one_reference_unless_there_is_a_list() {
    let one = parse(r#"{"id":null,"document":"d","summary":"s"}"#);
    assert_eq!(texts(&one.examples), [("d", &["s".to_owned()][..])]);
    assert!(one.examples[0].fields.is_empty());
    let list = parse(r#"{"id":"7","document":"d","summary":"s","references":["s","t"],"topic":"x"}"#);
    assert_eq!(texts(&list.examples), [("d", &["s".to_owned(), "t".to_owned()][..])]);
    assert_eq!(list.examples[0].fields["topic"], "x");
}

#[test]
fn both_forms_of_e2e_give_the_same_groups() {
    let csv = load("e2e/excerpt.csv", &ReadOptions::default());
    let jsonl = load("e2e/excerpt.jsonl", &ReadOptions::default());
    assert_eq!((csv.form, jsonl.form), (Form::E2eCsv, Form::E2eJsonl));
    assert_eq!(texts(&csv.grouped()), texts(&jsonl.examples));
    assert_eq!(csv.examples.len(), jsonl.n_pair());
    assert_eq!(jsonl.examples[0].prompt, "name : Alimentum | area : city centre | family friendly : no");
    assert_eq!((csv.examples[0].line, jsonl.examples[0].line), (2, 1));
    assert_ne!(csv.sha256, jsonl.sha256);
}

#[test]
fn both_forms_of_dart_give_the_same_examples() {
    let json = load("dart/excerpt.json", &ReadOptions::default());
    let jsonl = load("dart/excerpt.jsonl", &ReadOptions::default());
    assert_eq!((json.form, jsonl.form), (Form::DartJson, Form::DartJsonl));
    assert_eq!(texts(&json.examples), texts(&jsonl.examples));
    assert_eq!(
        json.examples[0].prompt,
        "Mars Hill College : joined : 1973 | Mars Hill College : location : Mars Hill, North Carolina"
    );
    assert_eq!(json.examples[0].fields["sources"], "WikiSQL_decl_sents");
    assert_eq!(jsonl.examples[0].fields["sources"], "WikiSQL_decl_sents");
}

#[test]
fn blank_annotations_of_dart_are_passed_over_and_counted() {
    let text = r#"[{"tripleset":[["s","R","o"]],"annotations":[{"source":"a","text":" "},{"source":"b","text":"T."}]},
                   {"tripleset":[["s","R","p"]],"annotations":[{"source":"a","text":""}]}]"#;
    let data = Dataset::from_bytes("x.json".as_ref(), text.as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!(texts(&data.examples), [("s : r : o", &["T.".to_owned()][..])]);
    assert_eq!((data.dropped_references, data.examples[0].fields["sources"].as_str()), (2, "b"));
}

#[test]
fn both_forms_of_webnlg_give_the_same_examples() {
    for options in [ReadOptions::default(), good()] {
        let xml = load("webnlg-form/made-up.xml", &options);
        let json = load("webnlg-form/made-up.json", &options);
        assert_eq!((xml.form, json.form), (Form::WebnlgXml, Form::WebnlgJson));
        assert_eq!(texts(&xml.examples), texts(&json.examples));
        assert_eq!(xml.dropped_references, json.dropped_references);
    }
}

#[test]
fn webnlg_xml_is_read_with_its_entities_fields_and_lines() {
    let data = load("webnlg-form/made-up.xml", &ReadOptions::default());
    let [first, second, third] = data.examples.as_slice() else { panic!("{:?}", data.examples) };
    assert_eq!(first.prompt, "| Grey_Point : height : 31.0");
    assert_eq!(first.references[2], "The height of Grey Point is 31.0 metres.");
    assert_eq!((first.fields["category"].as_str(), first.fields["eid"].as_str()), ("Lighthouse", "Id1"));
    assert_eq!(
        second.prompt,
        "| Rye_&_Sons : location : \"Mill Lane, Harnby\" | Harnby : isPartOf : Östvale"
    );
    assert_eq!(second.references, ["Rye & Sons is in Mill Lane, Harnby, which is part of Östvale."]);
    assert_eq!([first.line, second.line, third.line], [4, 15, 22]);
}

#[test]
fn the_comment_filter_keeps_good_lexicalisations_and_drops_entries_without_any() {
    let all = load("webnlg-form/made-up.xml", &ReadOptions::default());
    assert_eq!((all.examples.len(), all.n_pair(), all.dropped_references), (3, 5, 0));
    let good = load("webnlg-form/made-up.xml", &good());
    assert_eq!((good.examples.len(), good.n_pair(), good.dropped_references), (2, 3, 2));
}

#[test]
fn a_filter_that_leaves_nothing_is_an_error() {
    let xml =
        "<entry><modifiedtripleset><mtriple>s | p | o</mtriple></modifiedtripleset><lex>S.</lex></entry>";
    let error = Dataset::from_bytes("x.xml".as_ref(), xml.as_bytes(), &good()).unwrap_err();
    assert!(matches!(error, DataError::AllDropped { dropped: 1, .. }), "{error}");
}

#[test]
fn the_linearisation_can_be_chosen_and_is_ignored_where_the_prompt_is_text() {
    let of_2021 = ReadOptions { linearisation: Some(Linearisation::Webnlg2021), ..ReadOptions::default() };
    let data = load("webnlg-form/made-up.json", &of_2021);
    assert_eq!(data.linearisation, Some(Linearisation::Webnlg2021));
    assert_eq!(data.examples[0].prompt, " | Grey_Point : height : 31.0");
    let dart = load("dart/excerpt.jsonl", &of_2021);
    assert!(dart.examples[0].prompt.starts_with(" | Mars Hill College : JOINED : 1973 | "));
    let plain =
        Dataset::from_bytes("x.jsonl".as_ref(), br#"{"prompt":"a","completion":"b"}"#, &of_2021).unwrap();
    assert_eq!((plain.linearisation, plain.examples[0].prompt.as_str()), (None, "a"));
}

#[test]
fn the_form_can_be_given_against_the_content() {
    let line = br#"{"prompt":"a","completion":"b","text":"c"}"#;
    let options = ReadOptions { form: Some(Form::Text), ..ReadOptions::default() };
    let data = Dataset::from_bytes("x.jsonl".as_ref(), line, &options).unwrap();
    assert_eq!(texts(&data.examples), [("", &["c".to_owned()][..])]);
}

#[test]
fn a_folder_is_read_as_the_release_of_webnlg_in_the_order_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let made_up = fs_err::read_to_string(fixture("webnlg-form/made-up.xml")).unwrap();
    fs_err::create_dir_all(folder.path().join("2triples")).unwrap();
    fs_err::create_dir_all(folder.path().join("1triples")).unwrap();
    fs_err::write(folder.path().join("2triples/b.xml"), made_up.replace("Grey", "Red")).unwrap();
    fs_err::write(folder.path().join("1triples/a.xml"), &made_up).unwrap();
    fs_err::write(folder.path().join("readme.txt"), "no data").unwrap();
    let data = Dataset::load(folder.path(), &ReadOptions::default()).unwrap();
    assert_eq!(data.examples.len(), 6);
    assert_eq!(data.examples[0].fields["file"], "1triples/a.xml");
    assert_eq!(data.examples[3].prompt, "| Red_Point : height : 31.0");
    assert_eq!(data.examples[3].line, 4);

    let again = Dataset::load(folder.path(), &ReadOptions::default()).unwrap();
    assert_eq!(data.sha256, again.sha256);
    fs_err::write(folder.path().join("1triples/a.xml"), made_up.replace("31", "32")).unwrap();
    assert_ne!(data.sha256, Dataset::load(folder.path(), &ReadOptions::default()).unwrap().sha256);
}

#[test]
fn equal_prompts_merge_their_references_in_file_order() {
    let data = parse(
        "{\"prompt\":\"a\",\"completion\":\"1\",\"k\":\"first\"}\n{\"prompt\":\"b\",\"completion\":\"2\"}\n\
         {\"prompt\":\"a\",\"completion\":\"3\",\"k\":\"last\"}",
    );
    let grouped = data.grouped();
    assert_eq!(texts(&grouped), [("a", &["1".to_owned(), "3".to_owned()][..]), ("b", &["2".to_owned()][..])]);
    assert_eq!((grouped[0].line, grouped[0].fields["k"].as_str()), (1, "first"));
}

#[test]
fn subsets_hold_what_was_drawn_in_file_order_and_keep_the_hash() {
    let lines: Vec<String> = (0..40)
        .map(|n| format!("{{\"prompt\":\"p{n}\",\"references\":[\"{n}a\",\"{n}b\",\"{n}c\"]}}"))
        .collect();
    let data = parse(&lines.join("\n"));

    let inputs = data.take(7, 3);
    assert_eq!((inputs.examples.len(), inputs.n_pair()), (7, 21));
    assert!(inputs.examples.windows(2).all(|two| two[0].line < two[1].line));

    let pairs = data.take_pairs(25, 3);
    assert_eq!(pairs.n_pair(), 25);
    assert_eq!((&pairs.sha256, pairs.form), (&data.sha256, data.form));
    let all: Vec<_> = data.pairs().map(|pair| (pair.prompt, pair.completion)).collect();
    let places: Vec<usize> = pairs
        .pairs()
        .map(|pair| all.iter().position(|other| *other == (pair.prompt, pair.completion)).unwrap())
        .collect();
    assert!(places.windows(2).all(|two| two[0] < two[1]));

    assert_eq!(pairs.examples, data.take_pairs(25, 3).examples);
    assert_ne!(pairs.examples, data.take_pairs(25, 4).examples);
    assert_eq!(data.take_pairs(1000, 0).examples, data.examples);
}

#[test]
fn the_hash_is_that_of_the_bytes() {
    let line = br#"{"text":"abc"}"#;
    let data = Dataset::from_bytes("x.jsonl".as_ref(), line, &ReadOptions::default()).unwrap();
    assert_eq!(data.sha256, "45efb3f81766c9ade6f02575b920fcd9ccb6ba65c630421b501f78e686b610eb");
}

#[test]
fn the_example_lines_of_the_documentation_are_read_each_in_its_form() {
    let page = include_str!("../../../docs/data.md");
    let block = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let forms: Vec<Form> = block.lines().map(|line| parse(line).form).collect();
    assert_eq!(forms.len(), 8);
    assert!(forms.iter().enumerate().all(|(index, form)| !forms[..index].contains(form)), "{forms:?}");
    assert!(Form::ALL.iter().all(|form| page.contains(&format!("`{form}`"))));
    assert!(Linearisation::ALL.iter().all(|linearisation| page.contains(&format!("`{linearisation}`"))));
}
