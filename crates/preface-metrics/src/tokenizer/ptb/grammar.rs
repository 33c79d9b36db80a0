//! The token classes of the Penn Treebank tokenizer, as a table of patterns.
//!
//! A token is the *longest* text at the current position that any rule matches; of several rules that match the same
//! text the one that stands first in [`RULES`] decides. A rule may ask for a context behind the token ([`Context`]):
//! the context takes part in the comparison of lengths, but is not part of the token.
//!
//! Patterns are written in the syntax of the `regex` crate with two additions: `{name}` stands for an entry of
//! [`CLASSES`], and ASCII letters between two `~` match in either case (character classes stay case-sensitive, which
//! the abbreviations depend on).

/// What follows the token within the matched text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// Nothing: the match is the token.
    None,
    /// This many characters.
    Characters(usize),
    /// All from the first white space.
    FromSpace,
    /// All from the first white space, or the last character where there is none.
    FromSpaceOrLast,
    /// All from the first white space or digit.
    FromSpaceOrDigit,
    /// All from the apostrophe.
    FromApostrophe,
    /// All from the letter ahead of the apostrophe.
    FromLetterBeforeApostrophe,
    /// All behind the first character.
    FromSecond,
}

/// How the token's text becomes what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// As it stands.
    Keep,
    /// Without soft hyphens; `-` if nothing else is left.
    DropSoftHyphens,
    /// `&amp;` becomes `&`.
    Ampersand,
    /// Blanks become no-break blanks, so that a token never holds a blank.
    KeepTogether,
    /// Round brackets become `-LRB-` and `-RRB-`.
    Brackets,
    /// Both of these.
    KeepTogetherAndBrackets,
    /// An opening quotation mark.
    OpenQuote,
    /// A closing quotation mark or an apostrophe.
    CloseQuote,
    /// ``1/2`` for the character of a fraction.
    Fraction,
    /// `cents`, `#` for pounds, `$` for other currencies.
    Currency,
    /// Dashes of three or four hyphens become `--`.
    Dash,
    /// This text.
    Becomes(&'static str),
    /// The token with its full stop, which then is read again as a token of its own (`Inc.` at a sentence's end).
    StopTwice,
    /// As [`Action::StopTwice`], but a single letter gives its full stop away (`I.`).
    Acronym,
    /// The token without its last characters, which are read again (`cannot`).
    GiveBack(usize),
    /// White space and characters that leave no trace.
    Skip,
    /// The end of a line.
    EndLine,
}

/// A rule of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Text of the token and of its context.
    pub(super) pattern: &'static str,
    /// Where the context begins.
    pub(super) context: Context,
    /// What becomes of the token.
    pub(super) action: Action,
}

const fn rule(pattern: &'static str, context: Context, action: Action) -> Rule {
    Rule { pattern, context, action }
}

/// Named parts of patterns; a part may use the parts above it.
pub(super) const CLASSES: &[(&str, &str)] = &[
    // White space. Sixteen-bit text ends a line in more ways than one.
    ("space", r"[ \t\u{A0}\u{2000}-\u{200A}\u{3000}]"),
    ("newline", r"(\r|\r?\n|[\u{2028}\u{2029}\u{0B}\u{0C}\u{85}])"),
    ("space_or_newline", r"({space}|{newline})"),
    // Letters and digits as Unicode had them when the tokenizer was generated, with marks that it adds by hand.
    ("l", r"[[[\p{L}&&\p{age:6.2}]--[\u{19B0}-\u{19C0}\u{19C8}\u{19C9}\u{1CF2}\u{1CF3}]]\u{1885}\u{1886}]"),
    ("upper", r"[[\p{Uppercase}&&\p{age:6.2}]--[\u{13A0}-\u{13F5}]]"),
    ("d", r"[\p{Nd}&&\p{age:6.2}]"),
    ("digit", r"({d}|[\u{7C0}-\u{7C9}])"),
    ("entity_letter", r"&[aeiouAEIOU]~(acute|grave|uml)~;"),
    (
        "letter",
        r"({l}|{entity_letter}|[\u{AD}\u{237}-\u{24F}\u{2C2}-\u{2C5}\u{2D2}-\u{2DF}\u{2E5}-\u{2FF}\u{300}-\u{36F}\u{370}-\u{37D}\u{384}\u{385}\u{3CF}\u{3F6}\u{3FC}-\u{3FF}\u{483}-\u{487}\u{4CF}\u{4F6}-\u{4FF}\u{510}-\u{525}\u{55A}-\u{55F}\u{591}-\u{5BD}\u{5BF}\u{5C1}\u{5C2}\u{5C4}\u{5C5}\u{5C7}\u{615}-\u{61A}\u{63B}-\u{63F}\u{64B}-\u{65E}\u{670}\u{6D6}-\u{6EF}\u{6FA}-\u{6FF}\u{70F}\u{711}\u{730}-\u{74F}\u{750}-\u{77F}\u{7A6}-\u{7B1}\u{7CA}-\u{7F5}\u{7FA}\u{900}-\u{903}\u{93C}\u{93E}-\u{94E}\u{951}-\u{955}\u{962}-\u{963}\u{981}-\u{983}\u{9BC}-\u{9C4}\u{9C7}\u{9C8}\u{9CB}-\u{9CD}\u{9D7}\u{9E2}\u{9E3}\u{A01}-\u{A03}\u{A3C}\u{A3E}-\u{A4F}\u{A81}-\u{A83}\u{ABC}-\u{ACF}\u{B82}\u{BBE}-\u{BC2}\u{BC6}-\u{BC8}\u{BCA}-\u{BCD}\u{C01}-\u{C03}\u{C3E}-\u{C56}\u{D3E}-\u{D44}\u{D46}-\u{D48}\u{E30}-\u{E3A}\u{E47}-\u{E4E}\u{EB1}-\u{EBC}\u{EC8}-\u{ECD}])",
    ),
    ("word", r"{letter}({letter}|{digit})*([.!?]{letter}({letter}|{digit})*)*"),
    ("apostrophe", r"(['\u{92}\u{2019}]|&~apos~;)"),
    ("in_word_apostrophe", r"({apostrophe}|[`\u{91}\u{2018}\u{201B}])"),
    (
        "markup",
        r#"<([!?][A-Za-z\-][^>\r\n]*|[A-Za-z][A-Za-z0-9_:.\-]*( +([A-Za-z][A-Za-z0-9_:.\-]*|[A-Za-z][A-Za-z0-9_:.\-]* *= *('[^']*'|"[^"]*")))* */?|/[A-Za-z][A-Za-z0-9_:.\-]*) *>"#,
    ),
    ("sentence_start", r"{space_or_newline}({space_or_newline}|{upper}|{markup})"),
    ("number_body", r"({digit}+|{digit}*([.:,\u{AD}\u{66B}\u{66C}]{digit}+)+)"),
    ("number", r"[-+]?{number_body}"),
    ("hyphen", r"[-_\u{58A}\u{2010}\u{2011}]"),
    ("alnum", r"({l}|{d})"),
    ("elided", r"([dDoOlL]{in_word_apostrophe}{alnum})"),
    ("hyphenated", r"{elided}?{alnum}+({hyphen}{elided}?{alnum}+)*"),
    ("joined", r"[A-Z]+(([+&]|&~amp~;)[A-Z]+)+"),
    ("slashed_part", r"[A-Za-z0-9]+(-[A-Za-z]+){0,2}"),
    ("slashed", r"{slashed_part}(\\?\/{slashed_part}){1,2}"),
    (
        "long_acronym",
        r"([A-Za-z](\.[A-Za-z])+|~(canada|sino|korean|eu|japan|non)-u\.s~|~u\.s\.-(u\.k|u\.s\.s\.r)~)",
    ),
    (
        "acronym",
        r"([A-Za-z](\.[A-Za-z])*|~(canada|sino|korean|eu|japan|non)-u\.s~|~u\.s\.-(u\.k|u\.s\.s\.r)~)",
    ),
    ("hyphenated_code", r"[A-Za-z0-9][A-Za-z0-9.,\u{AD}]*(-([A-Za-z0-9\u{AD}]+|{long_acronym}\.))+"),
    ("contracted_verb", r"{apostrophe}([msdMSD]|~re|ve|ll~)"),
    ("before_not", r"[A-Za-z\u{AD}]*[A-MO-Za-mo-z]\u{AD}*"),
    ("contracted_not", r"~n~{in_word_apostrophe}~t~"),
    (
        "apostrophe_word",
        r"({apostrophe}~n~{apostrophe}?|[lLdDjJ]{apostrophe}|~dunkin~{apostrophe}|~somethin~{apostrophe}|~ol~{apostrophe}|{apostrophe}~em~|[A-HJ-XZn]{in_word_apostrophe}{l}{2}{l}*|{apostrophe}[2-9]0~s~|{apostrophe}~till?~|{l}{l}*[aeiouyAEIOUY]{in_word_apostrophe}[aeiouA-Z]{l}*|{apostrophe}~cause~|~cont'd~\.?|~nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l~|~o~{in_word_apostrophe}~o~)",
    ),
    ("full_url", r"~https?~:\/\/[^ \t\n\f\r\x22<>|(){}]+[^ \t\n\f\r\x22<>|.!?(){},-]"),
    (
        "likely_url",
        r"((~www~\.([^ \t\n\f\r\x22<>|.!?(){},]+\.)+[a-zA-Z]{2,4})|(([^ \t\n\f\r\x22`'<>|.!?(){},-_$]+\.)+~(com|net|org|edu)~))(\/[^ \t\n\f\r\x22<>|()]+[^ \t\n\f\r\x22<>|.!?(){},-])?",
    ),
    (
        "email",
        r"(&~lt~;|<)?[a-zA-Z0-9][^ \t\n\f\r\x22<>|()\u{A0}{}]*@([^ \t\n\f\r\x22<>|(){}.\u{A0}]+\.)*([^ \t\n\f\r\x22<>|(){}.\u{A0}]+)(&~gt~;|>)?",
    ),
    ("handle", r"(@[a-zA-Z_][a-zA-Z_0-9]*|#{letter}+)"),
    ("month", r"~(jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec)~"),
    ("weekday", r"~(mon|tue|tues|wed|thu|thurs|fri)~"),
    (
        "state",
        r"(~ala|ariz~|[A]~z~|[A]~rk~|~calif|colo|conn|ct|dak~|[D]~el~|~fla|ga~|[I]~ll~|~ind|kans?|ky~|[L]~a~|[M]~ass~|~md|mich|minn~|[M]~iss~|~mo|mont|neb|nev|okla~|[O]~re~|[P]~a~|~penn|tenn~|[T]~ex~|~va|vt~|[W]~ash~|~wisc?|wyo~)",
    ),
    ("company", r"~(inc|cos?|corp|pp?t[ye]s?|ltd|plc|rt|bancorp|bhd|assn|univ|intl|sys)~"),
    ("measure", r"~(tel|est|ext|sq)~"),
    ("after_name", r"~(jr|sr|bros|(ed|ph)\.d|esq)~"),
    (
        "abbreviation_before_lower",
        r"({month}|{weekday}|{state}|{company}|{measure}|{after_name}|~etc|al|seq|bldg|rd|blvd~)\.",
    ),
    (
        "title",
        r"(~mr|mrs|ms~|[M]~iss~|~drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|capt|ste?|ave|pres|lieut|hon|brig|co?mdr|pfc|spc|supts?|det|mt|ft|adj|adv|asst|assoc|ens|insp|mlle|mme|msgr|sfc~)",
    ),
    ("in_name", r"~(invt|elec|natl|m[ft]g|dept)~"),
    (
        "abbreviation_before_upper",
        r"({title}|~vs~|~alex|wm|jos|cie|a\.k\.a|cf|treas|ph~|{acronym}|{in_name})",
    ),
    ("abbreviation_before_number", r"~(ca|figs?|prop|nos?|art|bldg|prop|pp|op)~\."),
    ("spaces", r"{space}+"),
    (
        "sentence_opener",
        r"([A]~bout~|[A]~ccording~|[A]~dditionally~|[A]~fter~|[A]~n~|[A]|[A]~s~|[A]~t~|[B]~ut~|[E]~arlier~|[H]~e~|[H]~er~|[H]~ere~|[H]~owever~|[I]~f~|[I]~n~|[I]~t~|[L]~ast~|[M]~any~|[M]~ore~|[M]~r\.~|[M]~s\.~|[N]~ow~|[O]~nce~|[O]~ne~|[O]~ther~|[O]~ur~|[S]~he~|[S]~ince~|[S]~o~|[S]~ome~|[S]~uch~|[T]~hat~|[T]~he~|[T]~heir~|[T]~hen~|[T]~here~|[T]~hese~|[T]~hey~|[T]~his~|[W]~e~|[W]~hen~|[W]~hile~|[W]~hat~|[Y]~et~|[Y]~ou~)",
    ),
    ("phone_sep", r"[- \u{A0}]"),
    (
        "phone",
        r"((\([0-9]{2,3}\)[ \u{A0}]?|(\+\+?)?([0-9]{2,4}{phone_sep})?[0-9]{2,4}{phone_sep})[0-9]{3,4}{phone_sep}?[0-9]{3,5}|((\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5})",
    ),
    ("inner_punctuation", r"[,;:\u{3001}]"),
    (
        "quotes",
        r"({apostrophe}|''|[`\u{2018}\u{2019}\u{201A}\u{201B}\u{201C}\u{201D}\u{91}\u{92}\u{93}\u{94}\u{201E}\u{201F}\u{2039}\u{203A}\u{AB}\u{BB}]{1,2})",
    ),
    ("double_quote", r"(\x22|&~quot~;)"),
    (
        "filename",
        r"({letter}|{digit})+(\.({letter}|{digit})+)*\.~(bat|bmp|c|class|cgi|cpp|dll|doc|docx|exe|gif|gz|h|htm|html|jar|java|jpeg|jpg|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|wav|x|xml|zip)~",
    ),
];

/// All rules; a lower one wins only with a longer match.
pub(super) const RULES: &[Rule] = &[
    rule(r"~cannot|'twas~", Context::None, Action::GiveBack(3)),
    rule(r"~'tis|gonna|gotta|lemme|gimme|wanna~", Context::None, Action::GiveBack(2)),
    rule(r"~c\+\+|(c|f)#~", Context::None, Action::Keep),
    rule(r"{markup}", Context::None, Action::KeepTogether),
    rule(r"&~(md|mdash|ndash)~;|[\u{96}\u{97}\u{2013}-\u{2015}]", Context::None, Action::Becomes("--")),
    rule(r"&~amp~;", Context::None, Action::Ampersand),
    rule(r"&(~ht|tl|ur|lr|qc|ql|qr|odq|cdq~|#[0-9]+);", Context::None, Action::Keep),
    rule(r"{word}{contracted_verb}", Context::FromApostrophe, Action::DropSoftHyphens),
    rule(r"{before_not}{contracted_not}", Context::FromLetterBeforeApostrophe, Action::DropSoftHyphens),
    rule(r"{word}", Context::None, Action::DropSoftHyphens),
    rule(r"{apostrophe_word}", Context::None, Action::Keep),
    rule(r"~y~{apostrophe}{l}", Context::Characters(1), Action::Keep),
    rule(r"{full_url}|{likely_url}", Context::None, Action::Keep),
    rule(r"{email}|{handle}", Context::None, Action::Keep),
    rule(r"{contracted_verb}[^A-Za-z]|{contracted_not}[^A-Za-z]", Context::Characters(1), Action::CloseQuote),
    rule(r"{digit}{1,2}[-/]{digit}{1,2}[-/]{digit}{2,4}", Context::None, Action::Keep),
    rule(r"{number}", Context::None, Action::DropSoftHyphens),
    rule(
        r"[\u{207A}\u{207B}\u{208A}\u{208B}]?([\u{2070}\u{B9}\u{B2}\u{B3}\u{2074}-\u{2079}]+|[\u{2080}-\u{2089}]+)",
        Context::None,
        Action::Keep,
    ),
    rule(
        r"({digit}{1,4}[- \u{A0}])?{digit}{1,4}(\\?/|\u{2044}){digit}{1,4}",
        Context::None,
        Action::KeepTogether,
    ),
    rule(r"[\u{BC}-\u{BE}\u{2153}-\u{215E}]", Context::None, Action::Fraction),
    rule(
        r"-~(rrb|lrb|rcb|lcb|rsb|lsb)~-|~c\.d\.s|pro-|anti-|s(&|&amp;)p-500|s(&|&amp;)ls|cap~{apostrophe}~n|c~{apostrophe}~est~",
        Context::None,
        Action::Ampersand,
    ),
    rule(r"{slashed}", Context::None, Action::Keep),
    rule(r"[A-Z]*\$|#", Context::None, Action::Keep),
    rule(
        r"[\u{A2}-\u{A5}\u{80}\u{20A0}\u{20AC}\u{60B}\u{E3F}\u{20A4}\u{FFE0}\u{FFE1}\u{FFE5}\u{FFE6}]",
        Context::None,
        Action::Currency,
    ),
    rule(
        r"({acronym})\.{space_or_newline}+({sentence_opener}|{markup}){space_or_newline}",
        Context::FromSpace,
        Action::Acronym,
    ),
    rule(r"{abbreviation_before_number}{space_or_newline}?{d}", Context::FromSpaceOrDigit, Action::Keep),
    rule(r"(~pt~[eyEY]|~co~)\.{space}~(ltd|lim)~", Context::Characters(4), Action::Keep),
    rule(r"{abbreviation_before_lower}{sentence_start}", Context::FromSpace, Action::StopTwice),
    rule(r"{abbreviation_before_lower}(?s:..)", Context::Characters(2), Action::Keep),
    rule(r"{abbreviation_before_lower}", Context::None, Action::StopTwice),
    rule(r"{abbreviation_before_upper}\.", Context::None, Action::Keep),
    rule(r"{abbreviation_before_upper}{space}", Context::Characters(1), Action::Keep),
    rule(r"{acronym}{space_or_newline}", Context::FromSpace, Action::Keep),
    rule(r"{apostrophe}[0-9][0-9]{space_or_newline}", Context::FromSpace, Action::Keep),
    rule(r"{filename}({space_or_newline}|[.?!,])", Context::FromSpaceOrLast, Action::Keep),
    rule(r"{word}\.{inner_punctuation}", Context::Characters(1), Action::DropSoftHyphens),
    rule(r"{phone}", Context::None, Action::KeepTogetherAndBrackets),
    rule(r"{double_quote}[A-Za-z0-9$]", Context::Characters(1), Action::OpenQuote),
    rule(r"{double_quote}", Context::None, Action::CloseQuote),
    rule(r"\x7F", Context::None, Action::Skip),
    rule(r"<|&~lt~;", Context::None, Action::Becomes("<")),
    rule(r">|&~gt~;", Context::None, Action::Becomes(">")),
    rule(r"[<>]?[:;=][\-o*']?[()DPdpO\\{@|\[\]][^A-Za-z0-9]", Context::Characters(1), Action::Brackets),
    rule(
        r"[\^x=\x7E<>]\.\[\^~x~=[^<]*<>\]|[-\^x=\x7E<>']_[-\^x=\x7E<>']|\([-\^x=\x7E<>'][_.]?[-\^x=\x7E<>']\)|\([\^x=\x7E<>']-[\^x=\x7E<>'`]\)",
        Context::None,
        Action::Brackets,
    ),
    rule(r"\{", Context::None, Action::Becomes("-LCB-")),
    rule(r"\}", Context::None, Action::Becomes("-RCB-")),
    rule(r"\[", Context::None, Action::Becomes("-LSB-")),
    rule(r"\]", Context::None, Action::Becomes("-RSB-")),
    rule(r"\(", Context::None, Action::Becomes("-LRB-")),
    rule(r"\)", Context::None, Action::Becomes("-RRB-")),
    rule(r"-+", Context::None, Action::Dash),
    rule(r"\.{3,5}|(\.[ \u{A0}]){2,4}\.|[\u{85}\u{2026}]", Context::None, Action::Becomes("...")),
    rule(r"@+|#+|_+|\*+|(\\\*){1,3}|{inner_punctuation}|[?!]+", Context::None, Action::Keep),
    rule(
        r"[.\u{A1}\u{BF}\u{37E}\u{589}\u{61F}\u{6D4}\u{700}-\u{702}\u{7FA}\u{3002}]|=|/",
        Context::None,
        Action::Keep,
    ),
    rule(r"{hyphenated_code}\.{inner_punctuation}", Context::Characters(1), Action::DropSoftHyphens),
    rule(r"{hyphenated_code}", Context::None, Action::DropSoftHyphens),
    rule(r"{hyphenated}\.{inner_punctuation}", Context::Characters(1), Action::Keep),
    rule(r"{hyphenated}", Context::None, Action::Keep),
    rule(r"{joined}\.{inner_punctuation}", Context::Characters(1), Action::Ampersand),
    rule(r"{joined}", Context::None, Action::Ampersand),
    rule(r"'[A-Za-z][^ \t\n\r\u{A0}]", Context::FromSecond, Action::OpenQuote),
    rule(r"{contracted_verb}|{contracted_not}|{quotes}", Context::None, Action::CloseQuote),
    rule(r"<<|>>", Context::None, Action::Keep),
    rule(
        r"[+%&\x7E\^|\\\u{A6}-\u{A9}\u{AC}\u{AE}-\u{BA}\u{D7}\u{F7}\u{387}\u{5BE}\u{5C0}\u{5C3}\u{5C6}\u{5F3}\u{5F4}\u{600}-\u{603}\u{606}-\u{60A}\u{60C}\u{614}\u{61B}\u{61E}\u{66A}\u{66D}\u{703}-\u{70D}\u{7F6}-\u{7F8}\u{964}\u{965}\u{E4F}\u{1FBD}\u{2016}\u{2017}\u{2020}-\u{2023}\u{2030}-\u{2038}\u{203B}\u{203E}-\u{2042}\u{2044}\u{207A}-\u{207F}\u{208A}-\u{208E}\u{2100}-\u{214F}\u{2190}-\u{2BFF}\u{3012}\u{30FB}\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF20}\u{FF3B}-\u{FF40}\u{FF5B}-\u{FF65}]",
        Context::None,
        Action::Keep,
    ),
    rule(r"\x00|{spaces}|[\u{200B}\u{200E}\u{200F}\u{FEFF}]|&~nbsp~;", Context::None, Action::Skip),
    rule(r"{newline}", Context::None, Action::EndLine),
];
