//! `preface eval` and `preface score` through the binary.

use crate::common::*;

#[test]
fn an_evaluation_writes_what_it_prints_and_score_gives_the_same_figure() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(
        folder,
        "d.jsonl",
        "{\"prompt\":\"Once upon a\",\"references\":[\"time, there was a girl.\",\"time there was a boy.\"],\"topic\":\"x\"}\n\
         {\"prompt\":\"Tom and\",\"references\":[\"his dog ran.\"],\"topic\":\"y\"}\n\
         {\"prompt\":\"Once upon a\",\"references\":[\"day, a cat came.\"],\"topic\":\"x\"}\n",
    );
    let args =
        ["eval", "--model", MODEL, "--data", "d.jsonl", "--metrics", "bleu,chrf", "--max-new-tokens", "12"];
    let ran = done(folder, &[&args[..], &["--json", "--out", "e", "--slice-by", "topic"]].concat());
    let result = json(ran.stdout.trim());
    assert_eq!(result, json(&read(&folder.join("e"), "result.json")));
    assert_eq!(names(&folder.join("e")), ["hypotheses.txt", "predictions.jsonl", "result.json"]);
    assert_eq!(
        (result["inputs"].as_u64(), result["references"].as_u64()),
        (Some(2), Some(4)),
        "grouped by prompt"
    );
    let scores = result["scores"].as_array().unwrap();
    let score_names: Vec<_> = scores.iter().map(|score| score["name"].as_str().unwrap()).collect();
    assert_eq!(score_names, ["bleu", "chrf", "perplexity"]);
    assert!(
        scores[0]["signature"]
            .as_str()
            .unwrap()
            .starts_with("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp")
    );
    assert_eq!(result["slices"][0]["name"], "x");
    assert_eq!(result["settings"]["max_new_tokens"], 12);
    let hypotheses = read(&folder.join("e"), "hypotheses.txt");
    assert!(hypotheses.lines().all(|line| line == line.trim()), "stripped");

    let again =
        ["score", "--hypotheses", "e/hypotheses.txt", "--references", "e/predictions.jsonl", "--json"];
    let scored = json(done(folder, &[&again[..], &["--metrics", "bleu,chrf"]].concat()).stdout.trim());
    for i in 0..2 {
        assert_eq!(scored["scores"][i]["score"], scores[i]["score"]);
        assert_eq!(scored["scores"][i]["signature"], scores[i]["signature"]);
    }
    refused(folder, &[&args[..], &["--out", "e"]].concat(), 1, &["e: exists already", "--force"]);
    done(folder, &[&args[..], &["--out", "e", "--force"]].concat());
    refused(folder, &[&args[..], &["--slice-by", "nothing"]].concat(), 2, &["nothing", "topic"]);
}

#[test]
fn a_prefix_is_evaluated_with_the_text_form_it_was_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = |category: &str, subject: &str| {
        format!(
            "{{\"category\":\"{category}\",\"triples\":[[\"{subject}\",\"place\",\"park\"]],\"references\":[\"{subject} is in the park.\"]}}\n"
        )
    };
    let data: String =
        [("Food", "Tim"), ("Artist", "Sue"), ("Food", "Ben")].map(|(c, s)| line(c, s)).concat();
    write(folder, "w.jsonl", data);
    let train = ["train", "--model", MODEL, "--train", "w.jsonl", "--valid", "w.jsonl", "--out", "run"];
    let more = ["--recipe", "2021", "--max-steps", "3", "--precision", "f32", "--json", "--eval-steps", "3"];
    let trained = json(done(folder, &[&train[..], &more].concat()).stdout.trim());
    let eval = ["eval", "--model", MODEL, "--adapter", "run", "--data", "w.jsonl", "--metrics", "perplexity"];
    let result = json(done(folder, &[&eval[..], &["--json", "--precision", "f32"]].concat()).stdout.trim());
    assert_eq!(result["settings"]["linearisation"], "webnlg-2021", "the leading blank of 2021");
    let (a, b) = (result["eval_loss"].as_f64().unwrap(), trained["eval_loss"].as_f64().unwrap());
    assert!((a - b).abs() < 1e-6 * a.abs(), "{a} {b}");
    let slices: Vec<_> = result["slices"].as_array().unwrap().iter().map(|s| s["name"].clone()).collect();
    assert_eq!(slices, ["seen", "unseen"]);
    let weighted: f64 = result["slices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slice| {
            let score = &slice["scores"][0];
            let n: f64 = score["signature"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
            n * score["score"].as_f64().unwrap().ln()
        })
        .sum();
    let n: f64 =
        result["scores"][0]["signature"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    assert!((weighted / n - a).abs() < 1e-9, "the parts make the whole");
    refused(folder, &[&eval[..], &["--out", "run", "--force"]].concat(), 1, &["training run"]);
    let beams = ["eval", "--model", MODEL, "--data", "w.jsonl", "--set", "recipe=2021", "--json"];
    let result = json(done(folder, &[&beams[..], &["--max-samples", "1"]].concat()).stdout.trim());
    assert_eq!((&result["settings"]["num_beams"], &result["inputs"]), (&5.into(), &1.into()));
}

#[test]
fn systems_are_compared_with_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let lines = |text: &str| text.replace('/', "\n") + "\n";
    write(folder, "a.txt", lines("the cat sat/a dog ran home/it rains"));
    write(folder, "b.txt", lines("the cat sat on the mat/a dog ran home/it rains today"));
    write(folder, "r.txt", lines("the cat sat on the mat/a dog ran home/it rains today"));
    let base = ["score", "--hypotheses", "a.txt", "b.txt", "--references", "r.txt", "--metrics", "chrf,ter"];
    let text = done(folder, &[&base[..], &["--paired", "bootstrap", "--samples", "50"]].concat()).stdout;
    assert!(text.lines().nth(2).unwrap().starts_with("b ") && text.contains("100.00 (p 0."), "{text}");
    assert!(text.contains("* best") && text.contains("nrefs:1|bs:50|") || text.contains("bs:50"), "{text}");
    let result = json(
        done(folder, &[&base[..], &["--json", "--confidence", "--samples", "50"]].concat()).stdout.trim(),
    );
    assert_eq!(result["systems"][1]["system"], "b");
    assert!(result["systems"][1]["scores"][0]["confidence"]["half_width"].is_number());
    let markdown = done(folder, &[&base[..], &["--markdown"]].concat()).stdout;
    assert!(markdown.starts_with("| system | chrF") || markdown.starts_with("| system | chrf"), "{markdown}");
    assert!(markdown.lines().nth(1).unwrap().starts_with("|---|---:|"), "{markdown}");
}

#[test]
fn hypotheses_that_do_not_belong_to_the_references() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "h.txt", "a\nb\n");
    write(folder, "r.txt", "a\nb\nc\n");
    let args = ["score", "--hypotheses", "h.txt", "--references", "r.txt"];
    refused(folder, &args, 1, &["2 hypotheses", "3 segments"]);
    write(folder, "bad.txt", b"a\n\xff\n");
    refused(
        folder,
        &["score", "--hypotheses", "bad.txt", "--references", "r.txt"],
        1,
        &["bad.txt:2", "UTF-8"],
    );
    refused(folder, &["score", "--hypotheses", "none.txt", "--references", "r.txt"], 1, &["none.txt"]);
}
