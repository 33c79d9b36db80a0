//! `{"instruction": "...", "input": "...", "output": "..."}`, in the prompt of Stanford Alpaca
//! (`tatsu-lab/stanford_alpaca`, `PROMPT_DICT` of `train.py`): models tuned on such data have seen these very words.
//! Without an `input`, or with an empty one, the shorter prompt is used, as there.

use super::Draft;
use super::record::Record;
use crate::error::Fault;

pub(super) fn read(record: &Record) -> Result<Draft, Fault> {
    record.require(&["instruction", "output"])?;
    let instruction = record.text("instruction")?;
    let input = if record.has("input") { record.text("input")? } else { String::new() };
    Ok(Draft {
        prompt: prompt(&instruction, &input),
        references: vec![record.text("output")?],
        fields: record.fields(&["instruction", "input", "output"]),
    })
}

fn prompt(instruction: &str, input: &str) -> String {
    const REQUEST: &str = "Write a response that appropriately completes the request.";
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. {REQUEST}\n\n\
             ### Instruction:\n{instruction}\n\n### Response:"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. \
             {REQUEST}\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
        )
    }
}
