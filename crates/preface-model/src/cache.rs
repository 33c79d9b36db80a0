//! Keys and values of sequences that are being continued, in pages.
//!
//! Every layer has one row matrix `[n_page * 16, 2 * kv_width]` (keys, then values). A sequence owns a list of pages;
//! [`KvCache::fork`] shares them and copies only a page that two sequences would write to, so beams share their
//! prompt. Prefix rows are not in the cache at all: they stay in the attachments and are one more key run.
//!
//! The output of an encoder lies in pages of its own, as the keys and values that each layer of the decoder makes of it.
//! [`KvCache::encode`] fills them once for an input; forks share them.
//!
//! A cache is bound to one model and one set of attachments for its whole life, so cached rows can never be used
//! under another prefix than they were computed with.

use std::ops::Range;

use preface_backend::{AttentionPlan, Backend, KeyRun, QueryRun, Storage};

use crate::batch::{Prefix, check_length, check_source, check_tokens};
use crate::encoder_batch::{EncoderRows, cross_runs};
use crate::layer::{Encoded, Selected, Text};
use crate::model::{CrossRows, PassRows};
use crate::soft::SoftRows;
use crate::{Attachments, Model, ModelError, PerPlace, PrefixPlace, Stack};

/// Rows of a page.
pub const PAGE_ROWS: usize = 16;

/// Names a sequence of a [`KvCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId(usize);

/// What the encoder is to read.
#[derive(Clone, Copy, Debug)]
pub struct SourceFeed<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// Number of the prefix, if any: its rows in the encoder here, those in the decoder and in cross-attention later.
    pub segment: Option<usize>,
}

/// Tokens to run behind what a sequence already holds.
#[derive(Clone, Copy, Debug)]
pub struct Feed<'a> {
    /// The sequence, at most once in a call.
    pub sequence: SequenceId,
    /// At least one token.
    pub tokens: &'a [u32],
}

/// Cached sequences of one model under one set of attachments.
pub struct KvCache<'a, B: Backend> {
    model: &'a Model<B>,
    attachments: &'a Attachments<B>,
    /// The attached rows, stored as the text's keys and values are.
    prefixes: Vec<PerPlace<B::Rows>>,
    /// Keys and values of the decoder's own text.
    text: PagedRows<B>,
    /// Keys and values of what the encoder has read, as the decoder's layers see it.
    encoded: PagedRows<B>,
    sequences: Vec<Option<Cached>>,
}

#[derive(Clone)]
struct Cached {
    pages: Vec<usize>,
    len: usize,
    prefix: Prefix,
    encoded_pages: Vec<usize>,
    encoded_len: usize,
}

impl<'a, B: Backend> KvCache<'a, B> {
    /// An empty cache.
    pub fn new(model: &'a Model<B>, attachments: &'a Attachments<B>) -> Self {
        let paged = || PagedRows::new(model.spec.n_layer, 2 * model.spec.kv_width());
        let prefixes = attachments.segments.iter().map(|segment| segment.compact(&model.backend)).collect();
        Self { model, attachments, prefixes, text: paged(), encoded: paged(), sequences: Vec::new() }
    }

    /// The model it belongs to.
    pub fn model(&self) -> &'a Model<B> {
        self.model
    }

    /// A new, empty sequence behind the prefix number `segment`, if any. In an encoder-decoder it comes from
    /// [`KvCache::encode`].
    pub fn start(&mut self, segment: Option<usize>) -> SequenceId {
        self.insert(Cached::new(Prefix::of(self.attachments, segment), Vec::new(), 0))
    }

    /// Runs the encoder on every source and starts an empty sequence that sees what it gives.
    ///
    /// # Errors
    /// A model without an encoder, a source without tokens, with one outside the vocabulary or longer than the model's
    /// positions.
    pub fn encode(&mut self, sources: &[SourceFeed<'_>]) -> Result<Vec<SequenceId>, ModelError> {
        let (model, backend) = (self.model, &self.model.backend);
        let mut rows = EncoderRows::new(&model.spec, self.attachments);
        let soft_len = self.attachments.soft_len(Stack::Encoder);
        let mut ranges = Vec::with_capacity(sources.len());
        for (number, source) in sources.iter().enumerate() {
            check_source(&model.spec, number, source.tokens, soft_len)?;
            if model.spec.encoder.is_none() {
                return Err(ModelError::NoEncoder { sequence: number });
            }
            let prefix = Prefix::of(self.attachments, source.segment);
            ranges.push((rows.push(source.tokens, &prefix, None, None), prefix));
        }
        let sources = rows.upload(backend, &AttentionPlan::default());
        let states = model.encode(&sources, self.attachments);
        let context = model.encoder_context(&sources, self.attachments);
        // Sources that are equal were read once; here each sequence has pages of its own.
        let (mut from, mut slots, mut started) = (Vec::new(), Vec::new(), Vec::with_capacity(ranges.len()));
        for (range, prefix) in ranges {
            let pages: Vec<usize> =
                (0..range.len().div_ceil(PAGE_ROWS)).map(|_| self.encoded.new_page(backend)).collect();
            slots.extend(slots_of(&pages, 0..range.len()));
            from.extend(range.clone().map(|row| row as u32));
            started.push(self.insert(Cached::new(prefix, pages, range.len())));
        }
        let (from, slots) = (backend.index(&from), backend.index(&slots));
        let n_row = started.iter().map(|&sequence| self.cached(sequence).encoded_len).sum();
        let width = 2 * model.spec.kv_width();
        for (block, to) in model.decoder.blocks.iter().zip(&mut self.encoded.layers) {
            let cross = block.cross.as_ref().expect("the decoder of an encoder-decoder");
            let keys = cross.project(&context, &states);
            let mut picked = backend.rows(n_row, width, Storage::Compact);
            backend.gather(&keys, 0..width, &from, &mut picked);
            backend.scatter(&picked, 0..width, &slots, to);
        }
        Ok(started)
    }

    /// A second sequence with the same past. Pages are shared until one of the two writes.
    pub fn fork(&mut self, sequence: SequenceId) -> SequenceId {
        let copy = self.cached(sequence).clone();
        copy.pages.iter().for_each(|&page| self.text.pages.share(page));
        copy.encoded_pages.iter().for_each(|&page| self.encoded.pages.share(page));
        self.insert(copy)
    }

    /// Forgets all but the first `len` tokens.
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) {
        let soft_len = self.attachments.soft_len(Stack::Decoder);
        let cached = self.sequences[sequence.0].as_mut().expect("the sequence is live");
        // Without a token left, the soft prompt goes too: it runs again with the next first tokens.
        let len = if len == 0 { 0 } else { len + soft_len };
        assert!(len <= cached.len, "truncate: {len} of {} rows", cached.len);
        cached.len = len;
        for page in cached.pages.drain(len.div_ceil(PAGE_ROWS)..) {
            self.text.pages.release(page);
        }
    }

    /// Frees the sequence's pages; its id may be given out again.
    pub fn release(&mut self, sequence: SequenceId) {
        self.truncate(sequence, 0);
        let cached = self.sequences[sequence.0].take().expect("the sequence is live");
        cached.encoded_pages.iter().for_each(|&page| self.encoded.pages.release(page));
    }

    /// Tokens that the sequence holds.
    pub fn len(&self, sequence: SequenceId) -> usize {
        self.cached(sequence).len.saturating_sub(self.attachments.soft_len(Stack::Decoder))
    }

    /// Whether the sequence holds no token.
    pub fn is_empty(&self, sequence: SequenceId) -> bool {
        self.len(sequence) == 0
    }

    /// Runs the tokens of every feed and returns the logits behind the last one of each, `[n_feed, vocab_size]`
    /// row-major.
    ///
    /// # Errors
    /// A token outside the vocabulary, a sequence that becomes longer than the model's positions, or one that has no
    /// encoder's output though the model has an encoder.
    pub fn extend(&mut self, feeds: &[Feed<'_>]) -> Result<B::Host, ModelError> {
        let x = self.run(feeds, true)?;
        Ok(self.model.head_logits(&x))
    }

    /// Runs the tokens of every feed and only keeps their keys and values.
    ///
    /// # Errors
    /// As [`KvCache::extend`].
    pub fn append(&mut self, feeds: &[Feed<'_>]) -> Result<(), ModelError> {
        self.run(feeds, false).map(drop)
    }

    /// Keys and values of everything that the sequence holds, in the layout of prefix rows:
    /// `[len, 2 * n_layer * kv_width]`, row-major.
    pub fn read(&self, sequence: SequenceId) -> Vec<f32> {
        let cached = self.cached(sequence);
        self.text.read(&self.model.backend, &cached.slots(0..cached.len))
    }

    /// The same of what the decoder sees of the encoder's output, in the layout of cross-attention's prefix rows.
    pub fn read_encoded(&self, sequence: SequenceId) -> Vec<f32> {
        let cached = self.cached(sequence);
        self.encoded.read(&self.model.backend, &slots_of(&cached.encoded_pages, 0..cached.encoded_len))
    }

    /// The decoder's output for the last token of each feed, or for none.
    fn run(&mut self, feeds: &[Feed<'_>], last_wanted: bool) -> Result<B::Rows, ModelError> {
        let spec = &self.model.spec;
        for (number, feed) in feeds.iter().enumerate() {
            assert!(!feed.tokens.is_empty(), "extend: a feed without tokens");
            let cached = self.cached(feed.sequence);
            check_tokens(spec, number, feed.tokens)?;
            let soft_len = if cached.len == 0 { self.attachments.soft_len(Stack::Decoder) } else { 0 };
            let n_row = cached.len + soft_len + feed.tokens.len();
            check_length(spec, number, n_row, cached.prefix.first_position)?;
            if spec.encoder.is_some() && cached.encoded_len == 0 {
                return Err(ModelError::NoSource { sequence: number });
            }
        }
        let (mut ids, mut positions, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let (mut plan, mut last_plan) = (AttentionPlan::default(), AttentionPlan::default());
        let (mut cross_plan, mut last_cross_plan) = (AttentionPlan::default(), AttentionPlan::default());
        let mut last_rows: Vec<u32> = Vec::new();
        let mut copies = Copies::default();
        for feed in feeds {
            // The soft prompt runs with the first tokens of a sequence.
            let soft = self.attachments.soft_in(Stack::Decoder);
            let soft = soft.filter(|_| self.cached(feed.sequence).len == 0);
            let tokens = match soft {
                Some(soft) => soft.among(spec.vocab_size, feed.tokens, feed.tokens.len()),
                None => feed.tokens.to_vec(),
            };
            self.reserve(feed.sequence, tokens.len(), &mut copies);
            let cached = self.sequences[feed.sequence.0].as_mut().expect("checked above");
            let (first, first_row) = (cached.len, ids.len());
            let first_position = cached.prefix.first_position;
            cached.len += tokens.len();
            ids.extend(tokens);
            positions.extend((first..cached.len).map(|i| spec.position_row(first_position + i)));
            slots.extend(cached.slots(first..cached.len));
            let (keys, encoded_keys) = (cached.key_runs(first), cached.encoded_runs());
            if last_wanted {
                let rows = last_rows.len()..last_rows.len() + 1;
                last_cross_plan.runs.push(QueryRun {
                    rows: rows.clone(),
                    first_position: 0,
                    keys: encoded_keys.clone(),
                });
                let last_position = first_position + cached.len - 1;
                last_plan.runs.push(QueryRun { rows, first_position: last_position, keys: keys.clone() });
                last_rows.push(ids.len() as u32 - 1);
            }
            let rows = first_row..ids.len();
            cross_plan.runs.push(QueryRun { rows: rows.clone(), first_position: 0, keys: encoded_keys });
            plan.runs.push(QueryRun { rows, first_position: first_position + first, keys });
        }
        let model = self.model;
        let backend = &model.backend;
        self.text.copy(backend, &copies);
        let (slots, positions) = (backend.index(&slots), backend.index(&positions));
        let has_encoder = model.spec.encoder.is_some();
        let selected = Selected {
            n_row: last_rows.len(),
            rows: backend.index(&last_rows),
            plan: backend.plan(&last_plan),
            cross_plan: has_encoder.then(|| backend.plan(&last_cross_plan)),
        };
        let (plan, cross_plan) = (backend.plan(&plan), has_encoder.then(|| backend.plan(&cross_plan)));
        let encoded = Encoded::Keys(&self.encoded.layers);
        let cross = cross_plan.as_ref().map(|plan| CrossRows { plan, masks: None, encoded });
        let soft = SoftRows::take(backend, model.spec.vocab_size, &mut ids);
        let compact_prefixes = Some(self.prefixes.as_slice());
        let (positions, plan) = (&positions, &plan);
        let rows = PassRows { positions, plan, compact_prefixes, soft: soft.as_ref(), masks: None };
        let pass = model.pass(rows, cross, self.attachments, Some(&selected));
        let mut x = model.embed_tokens(&pass.own, &backend.index(&ids), ids.len());
        for (layer, (block, rows)) in model.decoder.blocks.iter().zip(&mut self.text.layers).enumerate() {
            x = block.forward(&pass, layer, &x, Text::Cache { rows, slots: &slots });
        }
        Ok(model.decoder.leave(&pass.own, &x).unwrap_or(x))
    }

    /// Makes room for `n_token` more, and makes the page that is written to the sequence's own: its rows are to be copied
    /// before anything is written.
    fn reserve(&mut self, sequence: SequenceId, n_token: usize, copies: &mut Copies) {
        let backend = &self.model.backend;
        let mut cached = self.sequences[sequence.0].take().expect("the sequence is live");
        let n_used = cached.len % PAGE_ROWS;
        if n_used > 0 {
            let last = cached.pages.len() - 1;
            if self.text.pages.is_shared(cached.pages[last]) {
                let own = self.text.new_page(backend);
                copies.from.extend(slots_of(&[cached.pages[last]], 0..n_used));
                copies.to.extend(slots_of(&[own], 0..n_used));
                self.text.pages.release(cached.pages[last]);
                cached.pages[last] = own;
            }
        }
        while cached.pages.len() * PAGE_ROWS < cached.len + n_token {
            cached.pages.push(self.text.new_page(backend));
        }
        self.sequences[sequence.0] = Some(cached);
    }

    fn insert(&mut self, cached: Cached) -> SequenceId {
        match self.sequences.iter().position(Option::is_none) {
            Some(free) => {
                self.sequences[free] = Some(cached);
                SequenceId(free)
            }
            None => {
                self.sequences.push(Some(cached));
                SequenceId(self.sequences.len() - 1)
            }
        }
    }

    fn cached(&self, sequence: SequenceId) -> &Cached {
        self.sequences[sequence.0].as_ref().expect("the sequence is live")
    }
}

/// Rows of the cache that hold the tokens of `range`.
fn slots_of(pages: &[usize], range: Range<usize>) -> Vec<u32> {
    range.map(|i| (pages[i / PAGE_ROWS] * PAGE_ROWS + i % PAGE_ROWS) as u32).collect()
}

impl Cached {
    fn new(prefix: Prefix, encoded_pages: Vec<usize>, encoded_len: usize) -> Self {
        Self { pages: Vec::new(), len: 0, prefix, encoded_pages, encoded_len }
    }

    fn slots(&self, range: Range<usize>) -> Vec<u32> {
        slots_of(&self.pages, range)
    }

    /// What tokens from number `first` on see: the prefix, and the text in as few runs as the pages allow.
    fn key_runs(&self, first: usize) -> Vec<KeyRun> {
        let mut runs: Vec<KeyRun> = self.prefix.run(PrefixPlace::Decoder, None).into_iter().collect();
        let n_prefix = runs.len();
        for (number, &page) in self.pages.iter().enumerate() {
            let token = number * PAGE_ROWS;
            let n_row = PAGE_ROWS.min(self.len - token);
            let start = page * PAGE_ROWS;
            let position = self.prefix.first_position + token;
            // Pages before the first new token are seen whole.
            let causal_from = (token + n_row > first + 1).then_some(position);
            match runs[n_prefix..].last_mut() {
                Some(run)
                    if run.rows.end == start && (causal_from.is_none() || run.causal_from.is_some()) =>
                {
                    run.rows.end += n_row;
                }
                _ => runs.push(KeyRun {
                    store: 0,
                    rows: start..start + n_row,
                    causal_from,
                    bias_from: Some(position),
                    dropout: None,
                }),
            }
        }
        runs
    }

    /// What every token sees of the encoder.
    fn encoded_runs(&self) -> Vec<KeyRun> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        for (number, &page) in self.encoded_pages.iter().enumerate() {
            let n_row = PAGE_ROWS.min(self.encoded_len - number * PAGE_ROWS);
            let start = page * PAGE_ROWS;
            match pieces.last_mut() {
                Some(piece) if piece.end == start => piece.end += n_row,
                _ => pieces.push(start..start + n_row),
            }
        }
        cross_runs(&self.prefix, None, pieces)
    }
}

/// Rows of every layer in pages.
struct PagedRows<B: Backend> {
    n_layer: usize,
    width: usize,
    /// `[n_page * 16, width]`
    layers: Vec<B::Rows>,
    pages: Pages,
}

impl<B: Backend> PagedRows<B> {
    fn new(n_layer: usize, width: usize) -> Self {
        Self { n_layer, width, layers: Vec::new(), pages: Pages::default() }
    }

    fn new_page(&mut self, backend: &B) -> usize {
        if let Some(page) = self.pages.take() {
            return page;
        }
        let old = self.pages.grow();
        let width = self.width;
        let rows = || backend.rows(self.pages.len() * PAGE_ROWS, width, Storage::Compact);
        if old == 0 {
            self.layers = (0..self.n_layer).map(|_| rows()).collect();
        } else {
            let kept = backend.index(&(0..(old * PAGE_ROWS) as u32).collect::<Vec<_>>());
            for layer in &mut self.layers {
                let mut larger = rows();
                backend.scatter(layer, 0..width, &kept, &mut larger);
                *layer = larger;
            }
        }
        self.pages.take().expect("the cache has just grown")
    }

    fn copy(&mut self, backend: &B, copies: &Copies) {
        if copies.from.is_empty() {
            return;
        }
        let (from, to) = (backend.index(&copies.from), backend.index(&copies.to));
        let mut rows = backend.rows(copies.from.len(), self.width, Storage::Compact);
        for layer in &mut self.layers {
            backend.gather(layer, 0..self.width, &from, &mut rows);
            backend.scatter(&rows, 0..self.width, &to, layer);
        }
    }

    /// The rows in some slots, `[n_slot, n_layer * width]`.
    fn read(&self, backend: &B, slots: &[u32]) -> Vec<f32> {
        let row_width = self.n_layer * self.width;
        let mut rows = vec![0.0; slots.len() * row_width];
        let index = backend.index(slots);
        for (layer, cache) in self.layers.iter().enumerate() {
            let mut picked = backend.rows(slots.len(), self.width, Storage::Exact);
            backend.gather(cache, 0..self.width, &index, &mut picked);
            for (row, values) in backend.read(&picked).chunks_exact(self.width).enumerate() {
                let start = row * row_width + layer * self.width;
                rows[start..start + self.width].copy_from_slice(values);
            }
        }
        rows
    }
}

/// Rows of every layer that are to be copied, from one slot to another.
#[derive(Default)]
struct Copies {
    from: Vec<u32>,
    to: Vec<u32>,
}

/// Which pages are free, and how many sequences hold each of the others.
#[derive(Default)]
struct Pages {
    holders: Vec<usize>,
    free: Vec<usize>,
}

impl Pages {
    fn len(&self) -> usize {
        self.holders.len()
    }

    fn take(&mut self) -> Option<usize> {
        let page = self.free.pop()?;
        self.holders[page] = 1;
        Some(page)
    }

    fn share(&mut self, page: usize) {
        self.holders[page] += 1;
    }

    fn is_shared(&self, page: usize) -> bool {
        self.holders[page] > 1
    }

    fn release(&mut self, page: usize) {
        self.holders[page] -= 1;
        if self.holders[page] == 0 {
            self.free.push(page);
        }
    }

    /// Doubles the number of pages; returns how many there were. The lowest new page is handed out first, so that a
    /// sequence's pages tend to lie side by side and make one key run.
    fn grow(&mut self) -> usize {
        const FIRST: usize = 8;
        let old = self.len();
        let new = (2 * old).max(FIRST);
        self.holders.resize(new, 0);
        self.free.extend((old..new).rev());
        old
    }
}
