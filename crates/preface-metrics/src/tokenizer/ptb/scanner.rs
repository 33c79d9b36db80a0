//! Longest match over the table of patterns, in linear time.
//!
//! All patterns run at once as one lazily built DFA from the start of a token until nothing can match any more; the last
//! position where some rule matched is the end. Scanning past that end and starting again behind it would be quadratic
//! for texts like `<a <a <a ...`, so a state that was once entered at a position without coming to a match is remembered
//! there and not followed a second time (Reps, "Maximal-munch tokenization in linear time", 1998), at every 64th
//! position, which bounds the set and costs nothing on ordinary text.

use std::sync::LazyLock;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::pool::{Pool, PoolGuard};
use regex_automata::{Anchored, MatchKind, util::start};
use rustc_hash::FxHashSet;

use super::grammar::{Action, CLASSES, Context, RULES};

const MEMO_DISTANCE: usize = 64;
/// Bytes that the lazily built automaton may take before it begins anew.
const CACHE_CAPACITY: usize = 32 << 20;

type CachePool = Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync>>;

struct Automaton {
    dfa: DFA,
    caches: CachePool,
}

static AUTOMATON: LazyLock<Automaton> = LazyLock::new(|| {
    let patterns = expanded_patterns();
    let dfa = DFA::builder()
        .configure(DFA::config().match_kind(MatchKind::All).cache_capacity(CACHE_CAPACITY))
        .build_many(&patterns)
        .expect("the grammar is a constant, and a test builds it");
    let for_cache = dfa.clone();
    Automaton { dfa, caches: Pool::new(Box::new(move || for_cache.create_cache())) }
});

/// The patterns of all rules with the named classes filled in and `~letters~` in both cases.
fn expanded_patterns() -> Vec<String> {
    let mut classes: Vec<(&str, String)> = Vec::with_capacity(CLASSES.len());
    for (name, pattern) in CLASSES {
        let expanded = expand(pattern, &classes);
        classes.push((name, expanded));
    }
    RULES.iter().map(|rule| expand(rule.pattern, &classes)).collect()
}

fn expand(pattern: &str, classes: &[(&str, String)]) -> String {
    let mut expanded = String::with_capacity(pattern.len() * 2);
    for (index, part) in pattern.split('~').enumerate() {
        if index % 2 == 1 {
            push_in_both_cases(part, &mut expanded);
        } else {
            expanded.push_str(part);
        }
    }
    for (name, class) in classes {
        let placeholder = format!("{{{name}}}");
        if expanded.contains(&placeholder) {
            expanded = expanded.replace(&placeholder, &format!("(?:{class})"));
        }
    }
    expanded
}

/// Letters outside of brackets become a class of both cases, with the non-ASCII characters that fold to them.
fn push_in_both_cases(part: &str, expanded: &mut String) {
    let mut bracketed = false;
    for c in part.chars() {
        match c {
            '[' => bracketed = true,
            ']' => bracketed = false,
            _ => {}
        }
        if bracketed || !c.is_ascii_alphabetic() {
            expanded.push(c);
            continue;
        }
        let others = match c {
            's' => "\u{17F}",
            'i' => "\u{130}\u{131}",
            'k' => "\u{212A}",
            _ => "",
        };
        expanded.extend(['[', c, c.to_ascii_uppercase()]);
        expanded.push_str(others);
        expanded.push(']');
    }
}

/// A token of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    /// Byte offset where it begins.
    pub(super) start: usize,
    /// As it stands in the text.
    pub(super) text: &'t str,
    /// What becomes of it.
    pub(super) action: Action,
}

/// The tokens of a text, in order.
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    start_state: LazyStateID,
    cache: PoolGuard<'static, Cache, Box<dyn Fn() -> Cache + Send + Sync>>,
    futile: FxHashSet<(LazyStateID, usize)>,
    clear_count: usize,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut cache = AUTOMATON.caches.get();
        let start = start::Config::new().anchored(Anchored::Yes);
        let start_state = AUTOMATON
            .dfa
            .start_state(&mut cache, &start)
            .expect("an anchored start without look-behind always exists");
        let clear_count = cache.clear_count();
        Self { text, at: 0, start_state, cache, futile: FxHashSet::default(), clear_count }
    }

    /// The rule with the longest match at `self.at` and the match's end.
    fn longest(&mut self) -> Option<(usize, usize)> {
        let dfa = &AUTOMATON.dfa;
        let bytes = self.text.as_bytes();
        let mut longest = None;
        let mut state = self.start_state;
        let mut since_match = Vec::new();
        let mut last = self.at;
        for at in self.at..=bytes.len() {
            let next = match bytes.get(at) {
                Some(byte) => dfa.next_state(&mut self.cache, state, *byte),
                None => dfa.next_eoi_state(&mut self.cache, state),
            };
            state = next.expect("the cache begins anew without limit");
            if self.cache.clear_count() != self.clear_count {
                self.forget(&mut since_match);
            }
            if state.is_match() {
                let rule = (0..dfa.match_len(&self.cache, state))
                    .map(|index| dfa.match_pattern(&self.cache, state, index).as_usize())
                    .min()
                    .expect("a match state has a pattern");
                longest = Some((rule, at));
                last = at;
                since_match.clear();
            } else if state.is_dead() {
                break;
            }
            if at % MEMO_DISTANCE == 0 && at - last >= MEMO_DISTANCE {
                if self.futile.contains(&(state, at)) {
                    break;
                }
                since_match.push((state, at));
            }
        }
        self.futile.extend(since_match);
        longest
    }

    /// States of an automaton that has begun anew mean nothing to it.
    fn forget(&mut self, since_match: &mut Vec<(LazyStateID, usize)>) {
        since_match.clear();
        self.futile.clear();
        self.clear_count = self.cache.clear_count();
        let start = start::Config::new().anchored(Anchored::Yes);
        self.start_state = AUTOMATON
            .dfa
            .start_state(&mut self.cache, &start)
            .expect("an anchored start without look-behind always exists");
    }
}

impl<'t> Iterator for Scanner<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        let start = self.at;
        let Some((rule, end)) = self.longest() else {
            // A character that no rule knows ends a token and is dropped.
            self.at += first.len_utf8();
            return Some(Token { start, text: &rest[..first.len_utf8()], action: Action::Skip });
        };
        let rule = &RULES[rule];
        let matched = &self.text[start..end];
        let token = &matched[..matched.len() - context_len(rule.context, matched)];
        let (text, consumed) = printed_and_consumed(rule.action, token);
        self.at += consumed;
        Some(Token { start, text: &token[..text], action: rule.action })
    }
}

/// Bytes of `matched` that are context.
fn context_len(context: Context, matched: &str) -> usize {
    let from = |at: Option<usize>| matched.len() - at.unwrap_or(matched.len());
    match context {
        Context::None => 0,
        Context::Characters(count) => matched.chars().rev().take(count).map(char::len_utf8).sum(),
        Context::FromSpace => from(matched.find(is_space)),
        Context::FromSpaceOrLast => from(matched.find(is_space).or(Some(matched.len() - 1))),
        Context::FromSpaceOrDigit => from(matched.find(|c: char| is_space(c) || c.is_numeric())),
        Context::FromApostrophe => from(apostrophe(matched)),
        Context::FromLetterBeforeApostrophe => from(apostrophe(matched)) + 1,
        Context::FromSecond => from(matched.char_indices().nth(1).map(|(at, _)| at)),
    }
}

fn apostrophe(matched: &str) -> Option<usize> {
    let character = matched.find(['\'', '`', '\u{91}', '\u{92}', '\u{2018}', '\u{2019}', '\u{201B}']);
    character.or_else(|| matched.rfind('&'))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r' | '\u{85}' | '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{2028}' | '\u{2029}' | '\u{3000}')
}

/// Bytes of the token that are printed and bytes that are not read again.
fn printed_and_consumed(action: Action, token: &str) -> (usize, usize) {
    let len = token.len();
    match action {
        Action::GiveBack(count) => (len - count, len - count),
        Action::StopTwice => (len, len - 1),
        Action::Acronym if len == 2 => (1, 1),
        Action::Acronym => (len, len - 1),
        _ => (len, len),
    }
}
