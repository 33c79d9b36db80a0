//! `preface bench generate`: decoding, prefill, and both together, behind one prefix or several.

use std::time::Instant;

use anyhow::{Result, ensure};
use preface_backend::Backend;
use preface_cpu::CpuBackend;
use preface_generate::{Generation, GenerationSettings, Generator, Observer, Request};
use preface_model::{Attachments, Model, ModelFiles, Segment};
use preface_tune::init::text_rows;

use super::{Report, flops, peak};
use crate::args::BenchGenerateArgs;
use crate::config::AnswerConfig;
use crate::engine;
use crate::ui;

const PROMPT_LEN: usize = 16;
const PREFILL_LEN: usize = 512;
const WINDOWS: usize = 3;

/// Runs the command.
pub fn run(args: &BenchGenerateArgs) -> Result<()> {
    let compute = AnswerConfig::compute_of(&args.settings.typed()?)?;
    let files = ModelFiles::open(&args.model)?;
    let spec = files.spec();
    let (window, prefix_len) = (args.max_new_tokens, args.prefix_len);
    let room = spec.max_positions.saturating_sub(prefix_len);
    ensure!(
        PROMPT_LEN + 1 + WINDOWS * window <= room,
        "{WINDOWS} windows of {window} steps need more than the model's {} positions; lower --max-new-tokens",
        spec.max_positions
    );
    let model = engine::load(&files, &compute)?;
    ui::fact("model", &format!("{}: {}", args.model, engine::shapes(&files)));
    ui::fact("compute", &engine::described(&model));
    let segments = (0..args.prefixes).map(|number| {
        let text = prompt(spec.vocab_size, usize::MAX / 2 + number, prefix_len);
        Ok(Segment::new(model.backend(), &text_rows(&model, &text, None)?.values, spec))
    });
    let bench = Bench {
        model: &model,
        attachments: Attachments { segments: segments.collect::<Result<_>>()?, ..Attachments::none() },
        num_beams: args.num_beams,
        batch_size: args.batch_size,
    };
    bench.check()?;

    // One step more than the windows have: the first token comes from the prompt's own step.
    let times = bench.run(PROMPT_LEN, 1 + WINDOWS * window)?.step_ends;
    let step_times: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let windows = step_times.chunks(window).map(|steps| steps.iter().sum::<f64>());
    let decode_seconds = windows.fold(f64::INFINITY, f64::min);
    let prefill_len = PREFILL_LEN.min(room - 1);
    let prefill_seconds =
        (0..WINDOWS).map(|_| bench.prefill(prefill_len)).collect::<Result<Vec<_>>>()?.into_iter();
    let prefill_seconds = prefill_seconds.fold(f64::INFINITY, f64::min);
    let end_to_end = bench.run(PROMPT_LEN, window)?;

    let mut report = Report::new("generate", &args.model, &model);
    let n_row = args.batch_size * args.num_beams;
    let threads = model.backend().describe().threads;
    let (product, bandwidth) = (peak::product(model.backend(), threads), peak::read_bandwidth(threads)?);
    // The least time that a step can take: its operations, or reading every weight once.
    let n_key = prefix_len + PROMPT_LEN + WINDOWS * window / 2;
    let least =
        (n_row as f64 * flops::decoding(spec, n_key) / product).max(model.weight_bytes() as f64 / bandwidth);
    report.add("weights", compute.weights.as_deref().unwrap_or("auto"));
    report.add("batch_size", args.batch_size);
    report.add("num_beams", args.num_beams);
    report.add("prefix_len", prefix_len);
    report.add("prefixes", args.prefixes);
    report.add("tokens_per_second", (args.batch_size * window) as f64 / decode_seconds);
    report.add("prefill_tokens_per_second", prefill_len as f64 / prefill_seconds);
    report.add("end_to_end_tokens_per_second", (args.batch_size * window) as f64 / end_to_end.seconds);
    report.add("share_of_peak", least * window as f64 / decode_seconds);
    report.add("peak_gflops_per_second", product / 1e9);
    report.add("read_gigabytes_per_second", bandwidth / 1e9);
    report.print(args.json)
}

struct Bench<'a> {
    model: &'a Model<CpuBackend>,
    attachments: Attachments<CpuBackend>,
    num_beams: usize,
    batch_size: usize,
}

/// When what was done.
struct Timed {
    generations: Vec<Generation>,
    /// Seconds from the start to the end of each step, the prompt's own first.
    step_ends: Vec<f64>,
    seconds: f64,
}

impl Bench<'_> {
    /// Answers of exactly `n_new` tokens: without end tokens nothing ends earlier.
    fn run(&self, prompt_len: usize, n_new: usize) -> Result<Timed> {
        self.answer(self.batch_size, self.num_beams, prompt_len, n_new)
    }

    fn answer(&self, batch_size: usize, num_beams: usize, prompt_len: usize, n_new: usize) -> Result<Timed> {
        let vocab_size = self.model.spec().vocab_size;
        let requests: Vec<Request> = (0..batch_size)
            .map(|i| Request {
                source: Vec::new(),
                prompt: prompt(vocab_size, i, prompt_len),
                segment: Some(i % self.attachments.segments.len()),
            })
            .collect();
        let settings =
            GenerationSettings { num_beams, max_new_tokens: n_new, ..GenerationSettings::default() };
        let generator = Generator::new(self.model, &self.attachments, &settings, &[], None)?;
        let mut clock = Clock { start: Instant::now(), asked: Vec::new() };
        let generations = generator.run(&requests, batch_size, &mut clock)?;
        let seconds = clock.start.elapsed().as_secs_f64();
        // It is asked before each step, and once more when all are finished.
        let step_ends = clock.asked.split_off(1);
        Ok(Timed { generations, step_ends, seconds })
    }

    fn prefill(&self, prompt_len: usize) -> Result<f64> {
        Ok(self.answer(1, 1, prompt_len, 1)?.seconds)
    }

    /// The answers in a batch are those of each prompt alone.
    fn check(&self) -> Result<()> {
        const N_NEW: usize = 4;
        let batch = self.run(PROMPT_LEN, N_NEW)?.generations;
        let alone = self.answer(1, self.num_beams, PROMPT_LEN, N_NEW)?.generations;
        ensure!(batch.iter().all(|answer| answer.token_ids.len() == N_NEW), "an answer has another length");
        ensure!(batch.iter().all(|answer| answer.logprob.is_finite()), "a probability is no number");
        let (batch, alone) = (&batch[0], &alone[0]);
        let is_close = |a: f64, b: f64| (a - b).abs() <= 0.05 * b.abs().max(1.0);
        // Near ties may turn out differently in another batch; how likely the first choice is may not.
        let first = |n_prompt: usize| -> Result<f64> {
            Ok(self.answer(n_prompt, self.num_beams, PROMPT_LEN, 1)?.generations[0].logprob)
        };
        let (first_of_batch, first_alone) = (first(self.batch_size)?, first(1)?);
        ensure!(
            is_close(first_of_batch, first_alone),
            "the first token's log-probability is {first_of_batch} in the batch, but {first_alone} alone"
        );
        ensure!(
            batch.token_ids != alone.token_ids || is_close(batch.logprob, alone.logprob),
            "the first answer's log-probability is {} in the batch, but {} alone",
            batch.logprob,
            alone.logprob
        );
        Ok(())
    }
}

/// Notes when each step begins.
struct Clock {
    start: Instant,
    asked: Vec<f64>,
}

impl Observer for Clock {
    fn should_stop(&mut self) -> bool {
        self.asked.push(self.start.elapsed().as_secs_f64());
        false
    }
}

/// Tokens that differ from those of any other number.
fn prompt(vocab_size: usize, number: usize, len: usize) -> Vec<u32> {
    let first = number.wrapping_mul(7919).wrapping_add(17);
    (0..len).map(|i| (first.wrapping_add(i * 104_729) % vocab_size) as u32).collect()
}
