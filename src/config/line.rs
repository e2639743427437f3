//! One line of the old agent's form: `[0 0/1 * * * ?] default/sampler.py arg1 "arg two"  # a comment`.
//!
//! Pure: a text in, the expression and the words out, each with its column. Words are split as a shell does it, with
//! quotes and backslashes; nothing is expanded and no shell is started.

/// More is no line of a person.
pub(super) const MAX_LINE: usize = 4096;
const MAX_WORDS: usize = 64;

/// A line that names a run. Columns count from 1, in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub cron: String,
    pub cron_column: usize,
    /// The program as written, then its arguments.
    pub words: Vec<String>,
    pub program_column: usize,
    /// An unquoted character that means something to a shell and nothing here, if there is one.
    pub shell: Option<(char, usize)>,
}

/// Why a line cannot be read, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub column: usize,
    pub message: String,
    pub hint: &'static str,
}

const FORM: &str = "write [second minute hour day-of-month month day-of-week] default/script arguments";

fn bad(column: usize, message: impl Into<String>, hint: &'static str) -> Bad {
    Bad { column, message: message.into(), hint }
}

/// `None` for a line with nothing but blanks and a comment.
pub(super) fn parse(text: &str) -> Result<Option<Line>, Bad> {
    let chars: Vec<char> = text.chars().collect();
    let blank = chars.iter().take_while(|c| c.is_whitespace()).count();
    match chars.get(blank) {
        None | Some('#') => return Ok(None),
        _ if chars.len() > MAX_LINE => {
            return Err(bad(1, format!("a line of more than {MAX_LINE} characters"), FORM));
        }
        _ => {}
    }
    if let Some(at) = chars.iter().position(|c| c.is_control() && *c != '\t') {
        return Err(bad(at + 1, "a control character", "check for stray bytes; lines are plain text"));
    }
    if chars[blank] != '[' {
        let hint = "a line begins with its times in brackets: [0 0/5 * * * ?] default/script";
        return Err(bad(blank + 1, format!("expected '[', found {:?}", chars[blank]), hint));
    }
    let Some(close) = chars.iter().position(|c| *c == ']') else {
        return Err(bad(blank + 1, "'[' is never closed", FORM));
    };
    let cron: String = chars[blank + 1..close].iter().collect();
    if cron.trim().is_empty() {
        return Err(bad(blank + 1, "there are no times between the brackets", FORM));
    }
    let lead = cron.chars().take_while(|c| c.is_whitespace()).count();
    let split = Words::split(&chars, close + 1)?;
    let Some(program_column) = split.program else {
        return Err(bad(close + 2, "no script is named after the times", FORM));
    };
    if split.words[0].is_empty() {
        return Err(bad(program_column, "the script's name is empty", FORM));
    }
    if split.words.iter().any(|word| word.chars().any(char::is_control)) {
        return Err(bad(program_column, "a tab within a word", "a script's arguments hold no control characters"));
    }
    Ok(Some(Line {
        cron: cron.trim().to_owned(),
        cron_column: blank + 2 + lead,
        words: split.words,
        program_column,
        shell: split.shell,
    }))
}

/// The words of a line while they are being split off.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    /// Column of the first.
    program: Option<usize>,
    shell: Option<(char, usize)>,
}

impl Words {
    fn split(chars: &[char], from: usize) -> Result<Self, Bad> {
        let mut split = Self::default();
        let mut at = from;
        loop {
            while chars.get(at).is_some_and(|c| c.is_whitespace()) {
                at += 1;
            }
            match chars.get(at) {
                None | Some('#') => return Ok(split),
                Some(_) if split.words.len() == MAX_WORDS => {
                    return Err(bad(at + 1, format!("more than {MAX_WORDS} words"), "put them into a script"));
                }
                Some(_) => {
                    split.program.get_or_insert(at + 1);
                    at = split.word(chars, at)?;
                }
            }
        }
    }

    /// One word from `at` on; where it ends.
    fn word(&mut self, chars: &[char], mut at: usize) -> Result<usize, Bad> {
        let mut word = String::new();
        while let Some(&c) = chars.get(at).filter(|c| !c.is_whitespace()) {
            at = match c {
                '\'' => quoted(chars, at, false, &mut word)?,
                '"' => quoted(chars, at, true, &mut word)?,
                '\\' => match chars.get(at + 1) {
                    Some(&next) => {
                        word.push(next);
                        at + 2
                    }
                    None => return Err(bad(at + 1, "a backslash ends the line", "a line cannot be continued")),
                },
                c => {
                    if matches!(c, '|' | '>' | '<' | '&' | ';' | '$' | '`') && self.shell.is_none() {
                        self.shell = Some((c, at + 1));
                    }
                    word.push(c);
                    at + 1
                }
            };
        }
        self.words.push(word);
        Ok(at)
    }
}

/// Takes in what stands between the quote at `open` and its fellow; where that ends. Within double quotes a backslash
/// takes the meaning of a quote or a backslash.
fn quoted(chars: &[char], open: usize, escapes: bool, word: &mut String) -> Result<usize, Bad> {
    let quote = chars[open];
    let mut at = open + 1;
    while let Some(&c) = chars.get(at) {
        match (c, chars.get(at + 1)) {
            (c, _) if c == quote => return Ok(at + 1),
            ('\\', Some(&next @ ('"' | '\\'))) if escapes => {
                word.push(next);
                at += 2;
            }
            _ => {
                word.push(c);
                at += 1;
            }
        }
    }
    Err(bad(open + 1, format!("the quote {quote} is never closed"), "close it on the same line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> Line {
        parse(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}")).unwrap_or_else(|| panic!("{text}: nothing"))
    }

    #[test]
    fn the_old_form_is_read_as_it_is() {
        let line = good("[0 0/1 * * * ?] default/sampler.py arg1 arg2");
        assert_eq!((line.cron.as_str(), line.cron_column), ("0 0/1 * * * ?", 2));
        assert_eq!((line.words.join("|").as_str(), line.program_column), ("default/sampler.py|arg1|arg2", 17));
        assert_eq!(line.shell, None);
        let wide = good("\t[ 0  0 3 ? * 6#3 ]user/a.sh\r".trim_end());
        assert_eq!((wide.cron.as_str(), wide.cron_column, wide.words[0].as_str()), ("0  0 3 ? * 6#3", 4, "user/a.sh"));
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        for text in ["", "   ", "\t", "# [0 * * * * ?] default/a", "  #"] {
            assert_eq!(parse(text), Ok(None), "{text:?}");
        }
        assert_eq!(good("[0 * * * * ?] a b # c d").words, ["a", "b"]);
        assert_eq!(good("[0 * * * * ?] a b#c '#d' \\#e").words, ["a", "b#c", "#d", "#e"]);
        assert_eq!(parse(&format!("#{}", "x".repeat(2 * MAX_LINE))), Ok(None));
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        let words = |text: &str| good(&format!("[0 * * * * ?] a {text}")).words[1..].join("|");
        for (text, expected) in [
            (r#""two words" 'and "three" more'"#, r#"two words|and "three" more"#),
            (r#"pre"fix ed"post"#, "prefix edpost"),
            (r"a\ b \\ \'", r"a b|\|'"),
            (r#""a\"b\\c\d" 'a\b'"#, r#"a"b\c\d|a\b"#),
            (r#""" ''"#, "|"),
            ("größe\u{3000}x", "größe|x"),
            ("%d --x=[1]", "%d|--x=[1]"),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_a_shell_understands_is_told() {
        assert_eq!(good("[0 * * * * ?] a b | c > d").shell, Some(('|', 19)));
        assert_eq!(good("[0 * * * * ?] a 'b | c' \\$HOME \"$x\"").shell, None);
        assert_eq!(good("[0 * * * * ?] a $HOME").shell, Some(('$', 17)));
    }

    #[test]
    fn bad_lines_name_the_column() {
        let long = format!("[0 * * * * ?] {}", "x".repeat(MAX_LINE));
        let many = format!("[0 * * * * ?]{}", " x".repeat(MAX_WORDS + 1));
        for (text, column, expected) in [
            ("0 0/1 * * * ? default/a", 1, "expected '['"),
            ("  default/a", 3, "expected '['"),
            ("[0 0/1 * * * ? default/a", 1, "never closed"),
            ("[] default/a", 1, "no times"),
            ("[  ] default/a", 1, "no times"),
            ("[0 * * * * ?]", 14, "no script"),
            ("[0 * * * * ?]   # nothing", 14, "no script"),
            ("[0 * * * * ?] \"\" x", 15, "empty"),
            ("[0 * * * * ?] a \"b", 17, "never closed"),
            ("[0 * * * * ?] a it's", 19, "never closed"),
            ("[0 * * * * ?] a \\", 17, "backslash"),
            ("[0 * * * * ?] a \u{1b}[31m", 17, "control character"),
            ("[0 * * * * ?] a 'b\tc'", 15, "a tab within a word"),
            (long.as_str(), 1, "more than 4096"),
            (many.as_str(), 14 + 1 + 2 * MAX_WORDS, "more than 64 words"),
        ] {
            let found = parse(text).expect_err(text);
            assert!(found.column == column && found.message.contains(expected), "{text}: {found:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            if let Ok(Some(line)) = parse(&text) {
                proptest::prop_assert!(!line.words[0].is_empty() && !line.cron.is_empty());
            }
        }
    }
}
