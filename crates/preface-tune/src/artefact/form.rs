//! What a method's folder is made of, one function for each method.

use preface_model::{Family, ModelSpec, PrefixPlace, Site};
use serde_json::{Value, json};

use super::PEFT_VERSION;
use super::adapter_config::Task;
use super::card::{Also, Subject};
use super::json::to_bytes;
use super::placed;
use super::soft::SoftFiles;
use super::trained::{
    ADAPTER, INFIX, INFIX_EMBEDDINGS, INFIX_KEY_VALUES, Kind, LORA, PEFT_PREFIX, PROMPT_EMBEDDINGS,
    PROMPT_TUNING, Tensors, WEIGHTS, transposed,
};
use crate::{Adapter, FineTune, Infix, Lora, LoraSettings, PlacedRows, PromptTuning, Tuned};

/// Tensors under the names that the folder has them, its adapter_config.json, and what the card says.
pub(super) struct Form {
    pub kind: Kind,
    pub tensors: Tensors,
    /// Bytes of adapter_config.json, under PEFT's keys where PEFT has the method.
    pub config: Vec<u8>,
    pub subject: Subject,
}

impl Form {
    pub fn placed_prefix(rows: &PlacedRows, spec: &ModelSpec, base_model: Option<&str>) -> Self {
        let prefix = placed::PlacedPrefixFiles::of(rows, spec);
        let config = match prefix.peft_sizes() {
            Some(sizes) => to_bytes(&super::adapter_config::written(Task::Seq2Seq, sizes, base_model)),
            None => config(spec, base_model, json!({"peft_type": placed::PREFACE_PREFIX})),
        };
        let n_number = PrefixPlace::ALL.iter().map(|place| rows.values.get(*place).len()).sum();
        let (tensors, subject) = (placed::tensors(rows, spec), prefix.subject(n_number));
        Self { kind: Kind::PlacedPrefix(prefix), tensors, config, subject }
    }

    pub fn prompt_tuning(prompt: &PromptTuning, spec: &ModelSpec, base_model: Option<&str>) -> Self {
        let shape = vec![prompt.len(), prompt.d_model()];
        let tensors = Tensors::from([(PROMPT_EMBEDDINGS.into(), (shape, prompt.rows()))]);
        let stack = spec.prompt_stack();
        let own = json!({
            "peft_type": PROMPT_TUNING,
            "num_attention_heads": stack.n_head,
            "num_layers": stack.n_layer,
            "num_transformer_submodules": 1,
            "num_virtual_tokens": prompt.len(),
            "prompt_tuning_init": "RANDOM",
            "prompt_tuning_init_text": null,
            "token_dim": prompt.d_model(),
            "tokenizer_kwargs": null,
            "tokenizer_name_or_path": null,
            "modules_to_save": null,
        });
        let also = if peft_scales_text(spec) { Also::Peft } else { Also::Nobody };
        let note = match also {
            Also::Peft => "",
            _ => {
                " PEFT would load them, but it leaves out the factor on the text's embeddings that this model has."
            }
        };
        let introduction = format!(
            "{} rows in the place of embeddings ({} numbers) ahead of {}.{note} Trained with \
             [prompt tuning](https://aclanthology.org/2021.emnlp-main.243/)",
            prompt.len(),
            n_number(&tensors),
            match spec.prompt_place() {
                PrefixPlace::Encoder => "whatever the encoder reads",
                _ => "every text",
            }
        );
        let subject = Subject {
            title: "A soft prompt",
            introduction,
            tag: "prompt-tuning",
            also,
            task: Task::of(spec),
        };
        let soft = SoftFiles::of(prompt.len(), spec);
        Self { kind: Kind::PromptTuning(soft), tensors, config: config(spec, base_model, own), subject }
    }

    pub fn infix(infix: &Infix, spec: &ModelSpec, base_model: Option<&str>) -> Self {
        let len = infix.len();
        let tensors = Tensors::from([
            (INFIX_EMBEDDINGS.into(), (vec![len, spec.d_model], infix.embeddings().to_vec())),
            (INFIX_KEY_VALUES.into(), (vec![len, spec.row_width(spec.prompt_place())], infix.added())),
        ]);
        let own = json!({"peft_type": INFIX, "num_virtual_tokens": len});
        let introduction = format!(
            "{len} rows {} ({} numbers). Trained with infix-tuning, the variant of \
             [prefix-tuning](https://aclanthology.org/2021.acl-long.353/) of section 7.3",
            match spec.prompt_place() {
                PrefixPlace::Encoder => "behind whatever the encoder reads",
                _ => "between prompt and completion",
            },
            n_number(&tensors)
        );
        let subject = Subject {
            title: "An infix",
            introduction,
            tag: "infix-tuning",
            also: Also::Nobody,
            task: Task::of(spec),
        };
        Self {
            kind: Kind::Infix(SoftFiles::of(len, spec)),
            tensors,
            config: config(spec, base_model, own),
            subject,
        }
    }

    pub fn lora(lora: &Lora, spec: &ModelSpec, base_model: Option<&str>) -> Self {
        let mut tensors = Tensors::new();
        for (name, shape, values) in lora.tensors() {
            tensors.insert(format!("{PEFT_PREFIX}{name}"), (shape.to_vec(), values.to_vec()));
        }
        let LoraSettings { r, lora_alpha, lora_dropout, target_modules } = lora.settings();
        let own = json!({
            "peft_type": LORA,
            "bias": "none",
            "fan_in_fan_out": lora.fan_in_fan_out(),
            "init_lora_weights": true,
            "lora_alpha": lora_alpha,
            "lora_dropout": lora_dropout,
            "modules_to_save": null,
            "r": r,
            "target_modules": target_modules,
            "use_dora": false,
            "use_rslora": false,
        });
        let introduction = format!(
            "Deltas of rank {r} for {} modules ({} numbers). Trained with [LoRA](https://arxiv.org/abs/2106.09685)",
            lora.n_module(),
            n_number(&tensors)
        );
        let subject = Subject {
            title: "Low-rank deltas",
            introduction,
            tag: "lora",
            also: Also::Peft,
            task: Task::of(spec),
        };
        Self {
            kind: Kind::Lora(lora.settings().clone()),
            tensors,
            config: config(spec, base_model, own),
            subject,
        }
    }

    pub fn adapter(adapter: &Adapter, spec: &ModelSpec, base_model: Option<&str>) -> Self {
        let mut tensors = Tensors::new();
        for (name, shape, values) in adapter.tensors() {
            tensors.insert(name.into(), (shape.to_vec(), values.to_vec()));
        }
        let width = adapter.width();
        let introduction = format!(
            "A bottleneck of width {width} behind each block ({} numbers). Trained",
            n_number(&tensors)
        );
        let subject = Subject {
            title: "Adapters",
            introduction,
            tag: "adapter",
            also: Also::Nobody,
            task: Task::of(spec),
        };
        let own = json!({"peft_type": ADAPTER, "width": width});
        Self { kind: Kind::Adapter { width }, tensors, config: config(spec, base_model, own), subject }
    }

    pub fn weights(weights: &FineTune, spec: &ModelSpec, base_model: Option<&str>) -> Self {
        let mut tensors = Tensors::new();
        for (shape, weight, bias) in weights.modules() {
            let [_, n_in] = shape.weight;
            for part in spec.hugging_face_parts(shape.site) {
                let n_row = part.rows.len();
                let own = &weight[part.rows.start * n_in..part.rows.end * n_in];
                let entry = match (shape.site.is_norm(), part.transposed) {
                    (true, _) => (vec![n_row], own.to_vec()),
                    (false, false) => (vec![n_row, n_in], own.to_vec()),
                    (false, true) => (vec![n_in, n_row], transposed(own, n_in).collect()),
                };
                tensors.insert(format!("{}.weight", part.module), entry);
                if let Some(bias) = bias {
                    let own = bias[part.rows.clone()].to_vec();
                    tensors.insert(format!("{}.bias", part.module), (vec![n_row], own));
                }
            }
        }
        let n_number = n_number(&tensors);
        if let Some((embedding, ..)) = weights.modules().find(|(shape, ..)| shape.site == Site::Embedding) {
            let [part] = &spec.hugging_face_parts(embedding.site)[..] else { unreachable!("one table") };
            let table = tensors[&format!("{}.weight", part.module)].clone();
            tensors.extend(spec.embedding_copies().into_iter().map(|name| (name, table.clone())));
        }
        let (top, title, introduction, also) = match weights.tuned() {
            Tuned::All => {
                let introduction = format!("All weights ({n_number} numbers). Trained");
                (0, "A fine-tuned model", introduction, Also::Transformers)
            }
            Tuned::Top(top) => {
                let introduction = format!(
                    "The weights of the top {top} blocks and of the final norm ({n_number} numbers). Trained"
                );
                (top, "Fine-tuned top layers", introduction, Also::Nobody)
            }
        };
        let subject = Subject { title, introduction, tag: "fine-tuning", also, task: Task::of(spec) };
        let own = json!({"peft_type": WEIGHTS, "top_layers": top});
        Self { kind: Kind::Weights(weights.tuned()), tensors, config: config(spec, base_model, own), subject }
    }
}

/// Whether PEFT, which hands a model embeddings in the place of tokens, hands it those that the model would make. Pegasus and
/// Marian of `transformers` put their factor on embeddings of tokens alone.
fn peft_scales_text(spec: &ModelSpec) -> bool {
    spec.embedding_scale == 1.0 || !matches!(spec.family, Family::Pegasus | Family::Marian)
}

fn n_number(tensors: &Tensors) -> usize {
    tensors.values().map(|(_, values)| values.len()).sum()
}

/// What every config says, and what is the method's own.
fn config(spec: &ModelSpec, base_model: Option<&str>, own: Value) -> Vec<u8> {
    let mut config = json!({
        "auto_mapping": null,
        "base_model_name_or_path": base_model,
        "inference_mode": true,
        "peft_version": PEFT_VERSION,
        "revision": null,
        "task_type": Task::of(spec).name(),
    });
    if let (Some(config), Value::Object(own)) = (config.as_object_mut(), own) {
        config.extend(own);
    }
    to_bytes(&config)
}
