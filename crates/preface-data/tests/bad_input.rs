//! What is wrong with a file is said with its name, the place and the reason.

use preface_data::{Dataset, Form, Linearisation, ReadOptions};

/// The message for a file that must not be read.
fn refused(name: &str, bytes: impl AsRef<[u8]>, options: &ReadOptions) -> String {
    let read = Dataset::from_bytes(name.as_ref(), bytes.as_ref(), options);
    let message = read.expect_err("the file must be refused").to_string();
    assert!(message.starts_with(name), "the file is not named: {message}");
    message
}

/// Asserts that the message for a file holds all of `parts`.
fn assert_refused(name: &str, bytes: impl AsRef<[u8]>, parts: &[&str]) {
    let message = refused(name, bytes, &ReadOptions::default());
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn an_empty_file() {
    for bytes in ["", "\n \n", "\u{feff}\n"] {
        for name in ["x.jsonl", "x.csv", "x.xml", "x.json", "x"] {
            assert_refused(name, bytes, &["empty"]);
        }
    }
    assert_refused("x.csv", "mr,ref\n", &["empty"]);
    assert_refused("x.json", "[]", &["empty"]);
}

#[test]
fn a_path_that_leads_nowhere() {
    let message = Dataset::load("no/such/file.jsonl", &ReadOptions::default()).unwrap_err().to_string();
    assert!(message.contains("no/such/file.jsonl"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let message = Dataset::load(folder.path(), &ReadOptions::default()).unwrap_err().to_string();
    assert!(message.contains("no .xml file"), "{message}");
    let jsonl = ReadOptions { form: Some(Form::Text), ..ReadOptions::default() };
    let message = Dataset::load(folder.path(), &jsonl).unwrap_err().to_string();
    assert!(message.contains("not as text"), "{message}");
}

#[test]
fn bytes_that_are_no_utf8() {
    let mut bytes = b"{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":\"".to_vec();
    bytes.extend([0xff, b'"', b'}']);
    assert_refused("x.jsonl", bytes, &["line 3", "UTF-8"]);
}

#[test]
fn a_line_that_is_no_json() {
    let start = "{\"prompt\":\"a\",\"completion\":\"b\"}\n\n";
    assert_refused(
        "x.jsonl",
        format!("{start}{{\"prompt\":\"a\",}}"),
        &["line 3", "malformed JSON", "column"],
    );
    assert_refused("x.jsonl", format!("{start}[1]"), &["line 3", "must be an object, found a list"]);
    assert_refused("x.jsonl", format!("{start}{{\"prompt\": \"a"), &["line 3", "malformed JSON"]);
    assert_refused("x.jsonl", format!("{start}{}", "[".repeat(100_000)), &["line 3", "malformed JSON"]);
}

#[test]
fn keys_that_are_missing_are_named_with_those_that_are_there() {
    let start = "{\"prompt\":\"a\",\"completion\":\"b\"}\n";
    assert_refused(
        "x.jsonl",
        format!("{start}{{\"prompt\":\"a\",\"answer\":\"b\"}}"),
        &["line 2", "needs `completion`", "found `prompt`, `answer`"],
    );
    assert_refused(
        "x.jsonl",
        format!("{start}{{}}"),
        &["line 2", "needs `prompt`, `completion`", "found no key"],
    );
    assert_refused("x.jsonl", "{\"mr\":\"a[b]\"}", &["line 1", "needs `references`", "found `mr`"]);
    assert_refused("x.jsonl", "{\"document\":\"a\"}", &["line 1", "needs `summary`"]);
    assert_refused("x.jsonl", "{\"instruction\":\"a\"}", &["line 1", "needs `output`"]);
    assert_refused("x.csv", "mr,reference\na[b],c\n", &["line 1", "needs `ref`", "found `mr`, `reference`"]);
    assert_refused(
        "x.json",
        "[{\"tripleset\":[]}]",
        &["entry 1", "needs `annotations`", "found `tripleset`"],
    );
    assert_refused(
        "x.json",
        "{\"entries\":[{\"1\":{\"lexicalisations\":[]}}]}",
        &["entry 1", "needs `modifiedtripleset`"],
    );
    let many = (0..200).map(|n| format!("\"key{n}\":1")).collect::<Vec<_>>().join(",");
    assert_refused("x.jsonl", format!("{start}{{{many}}}"), &["and 192 more"]);
}

#[test]
fn values_of_another_type() {
    assert_refused(
        "x.jsonl",
        "{\"prompt\":1,\"completion\":\"b\"}",
        &["line 1", "`prompt` must be a string, found a number"],
    );
    assert_refused("x.jsonl", "{\"prompt\":\"a\",\"completion\":null}", &["`completion`", "null"]);
    assert_refused("x.jsonl", "{\"prompt\":\"a\",\"references\":\"b\"}", &["`references` must be a list"]);
    assert_refused("x.jsonl", "{\"prompt\":\"a\",\"references\":[\"b\",3]}", &["item 2 of `references`"]);
    assert_refused(
        "x.jsonl",
        "{\"triples\":[[\"a\",\"b\"]],\"references\":[\"c\"]}",
        &["3 parts", "found 2"],
    );
    assert_refused("x.jsonl", "{\"triples\":[\"a\"],\"references\":[\"c\"]}", &["item 1 of `triples`"]);
    assert_refused("x.jsonl", "{\"triples\":[],\"references\":[\"c\"]}", &["no triples"]);
}

#[test]
fn empty_references_and_completions() {
    assert_refused(
        "x.jsonl",
        "{\"prompt\":\"a\",\"completion\":\" \\n\"}",
        &["line 1", "reference 1 of 1 is empty"],
    );
    assert_refused("x.jsonl", "{\"prompt\":\"a\",\"references\":[]}", &["line 1", "no reference"]);
    assert_refused(
        "x.jsonl",
        "{\"prompt\":\"a\",\"references\":[\"b\",\"\"]}",
        &["line 1", "reference 2 of 2 is empty"],
    );
    assert_refused("x.jsonl", "{\"text\":\"\"}", &["line 1", "empty"]);
    assert_refused("x.csv", "mr,ref\na[b],c\na[b],\n", &["line 3", "empty"]);
    let no_lex = "<entry>\n<modifiedtripleset><mtriple>s | p | o</mtriple></modifiedtripleset>\n</entry>";
    assert_refused("x.xml", format!("<entries>\n{no_lex}</entries>"), &["line 2", "no reference"]);
}

#[test]
fn chat_data() {
    let messages = r#"[{"role":"user","content":"a"}]"#;
    assert_refused(
        "x.jsonl",
        format!("{{\"messages\":{messages}}}"),
        &["line 1", "chat", "not supported yet"],
    );
    assert_refused(
        "x.jsonl",
        format!("{{\"prompt\":{messages},\"completion\":{messages}}}"),
        &["line 1", "chat"],
    );
    let later = format!("{{\"prompt\":\"a\",\"completion\":\"b\"}}\n{{\"messages\":{messages}}}");
    assert_refused("x.jsonl", later, &["line 2", "chat"]);
}

#[test]
fn an_unknown_form_lists_the_known_ones() {
    assert_refused("x.jsonl", "{\"question\":\"a\"}", &["`question`", "prompt-completion", "dart-json"]);
    assert_refused("x.txt", "Once upon a time", &["Once upon a time", "e2e-csv"]);
}

#[test]
fn malformed_meaning_representations() {
    assert_refused(
        "x.jsonl",
        "{\"mr\":\"name[x], area\",\"references\":[\"c\"]}",
        &["line 1", "meaning representation"],
    );
    assert_refused("x.csv", "mr,ref\na[b],c\n\"d\",e\n", &["line 3", "`d`"]);
}

#[test]
fn malformed_csv() {
    assert_refused("x.csv", "mr,ref\na[b],c\na[b],c,d\n", &["line 3", "3 columns", "header 2"]);
    assert_refused("x.csv", "mr,ref\r\n\r\na[b],\"c\nd\"\r\na[b],c,d\r\n", &["line 5", "3 columns"]);
}

#[test]
fn malformed_xml() {
    let entry = |inside: &str| {
        format!("<benchmark><entries>\n<entry category=\"C\">\n{inside}\n</entry></entries></benchmark>")
    };
    let triple = "<modifiedtripleset><mtriple>s | p | o</mtriple></modifiedtripleset>";
    assert_refused("x.xml", "no tag at all", &["no <entry>"]);
    assert_refused("x.xml", "<benchmark></benchmark>", &["no <entry>"]);
    assert_refused("x.xml", entry("<lex>a</mtriple>"), &["line 3", "malformed XML"]);
    assert_refused("x.xml", entry("<lex>a &bomb; b</lex>"), &["line 3", "unknown entity `&bomb;`"]);
    assert_refused(
        "x.xml",
        entry("<modifiedtripleset><mtriple>s | p</mtriple></modifiedtripleset>"),
        &["line 3", "3 parts", "found 2"],
    );
    assert_refused("x.xml", entry("<lex>a</lex>"), &["line 2", "no triples"]);
    assert_refused("x.xml", entry(&format!("{triple}\n{triple}")), &["line 4", "second <modifiedtripleset>"]);
    assert_refused("x.xml", entry("<lex><b>a</b></lex>"), &["line 3", "<b> inside"]);
    assert_refused("x.xml", entry("<entry></entry>"), &["line 3", "inside an <entry>"]);
    let whole = entry(&format!("{triple}<lex>a</lex>"));
    let cut = whole.strip_suffix("</entry></entries></benchmark>").unwrap();
    assert_refused("x.xml", cut, &["ends inside <entry>"]);
}

#[test]
fn malformed_json_of_a_published_file() {
    assert_refused("x.json", "[{\"tripleset\":\n[}]", &["line 2", "malformed JSON"]);
    assert_refused("x.json", "{\n\"entries\": [\n}", &["line 3", "malformed JSON"]);
    assert_refused("x.json", "{\n\"items\": []\n}", &["needs `entries`", "found `items`"]);
    assert_refused("x.json", "[3]", &["entry 1", "must be an object, found a number"]);
}

#[test]
fn a_linearisation_of_other_inputs() {
    let options = ReadOptions { linearisation: Some(Linearisation::Webnlg), ..ReadOptions::default() };
    let message = refused("x.jsonl", "{\"mr\":\"a[b]\",\"references\":[\"c\"]}", &options);
    assert!(message.contains("`webnlg` does not apply to meaning representations"), "{message}");
}

#[test]
fn a_form_that_is_given_but_does_not_fit() {
    let options = |form| ReadOptions { form: Some(form), ..ReadOptions::default() };
    let line = "{\"prompt\":\"a\",\"completion\":\"b\"}";
    for form in Form::ALL.into_iter().filter(|form| *form != Form::PromptCompletion) {
        refused("x.jsonl", line, &options(form));
    }
}
