//! Lines of a configuration without the secrets on them. A line is shown with an error even if its
//! file is no YAML at all, so secrets are found by how they look in the text, and not only where
//! the decoder saw one.

/// What is shown in a secret's place.
const MASK: &str = "********";
/// The keys whose values are secrets; longer keys that end in one of them are secrets too.
const SECRET_KEYS: [&str; 3] = ["private_key", "preshared_key", "password"];
/// The key of secrets that do not look like any: what is meant as it is taken for it.
const PASSWORD: &str = "password";
/// Slips of the pen within which a key is taken for that one.
const PASSWORD_SLIPS: usize = 3;
/// What other programs call a password: as part of a key, and as all of it.
const PASSWORD_PARTS: [&str; 4] = ["passw", "passphrase", "secret", "md5"];
const PASSWORD_NAMES: [&str; 3] = ["pass", "psk", "authentication"];
/// The ending of keys that name a file.
const FILE_ENDING: &str = "_file";
/// What stands before a key that is no secret, in messages.
const PUBLIC: &str = "public key";
/// Characters of base64 in a row that may be a secret of 32 bytes, which takes 43, with a slip.
const SHORTEST_SECRET: usize = 40;

/// Line `number` (from 1) of `text` as it may be shown: without what stands behind a secret's key,
/// without what looks like a secret, and without the word at each of `columns` (from 1), where
/// secrets are known to be.
pub(super) fn masked_line(text: &str, number: usize, columns: &[usize]) -> Option<String> {
    let lines: Vec<&str> = text.lines().take(number).collect();
    let line = *lines.get(number.checked_sub(1)?)?;
    if continues_secret(&lines) {
        let indent = line.len() - line.trim_start().len();
        return Some(format!("{}{MASK}", &line[..indent]));
    }
    let starts = columns.iter().filter_map(|column| line.char_indices().nth(column - 1));
    let known = starts.map(|(at, _)| at).min();
    let named = after_secret_key(line).filter(|&at| !line[at..].trim().is_empty());
    let cut = known.into_iter().chain(named).min();
    let shown = mask_words(&line[..cut.unwrap_or(line.len())]);
    Some(if cut.is_some() { format!("{shown}{MASK}") } else { shown })
}

/// What the YAML parser says about line `number` of `text`: without the words that it quotes from
/// it, if the line holds a secret.
pub(super) fn masked_words_of_parser(text: &str, number: usize, message: &str) -> String {
    let line = text.lines().nth(number.saturating_sub(1)).map(str::to_owned);
    if masked_line(text, number, &[]) == line {
        return message.to_owned();
    }
    let parts = message.split('`').enumerate();
    let shown: Vec<_> = parts.map(|(at, part)| if at % 2 == 1 { MASK } else { part }).collect();
    shown.join("`")
}

/// Whether the last of `lines` belongs to a value whose secret key stands on a line before it.
fn continues_secret(lines: &[&str]) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some((last, before)) = lines.split_last() else { return false };
    let head = before.iter().rev().find(|line| {
        !line.trim().is_empty() && (indent(line) < indent(last) || after_secret_key(line).is_some())
    });
    head.is_some_and(|head| after_secret_key(head).is_some() && indent(head) < indent(last))
        && after_any_key(last).is_none()
}

/// Where the value of the first secret's key on the line begins.
fn after_secret_key(line: &str) -> Option<usize> {
    line.match_indices(':').find_map(|(colon, _)| {
        let before = line[..colon].trim_end_matches(['"', '\'', ' ', '\t']);
        let word = |one: char| one.is_alphanumeric() || matches!(one, '_' | '-');
        let start = before
            .rfind(|one| !word(one))
            .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        let value = line[colon + 1..].trim_start();
        is_secret_key(&before[start..]).then(|| line.len() - value.len())
    })
}

/// Whether a key is a secret's, or was meant to be one.
fn is_secret_key(key: &str) -> bool {
    const LONGEST: usize = 64;
    let lower = key.to_ascii_lowercase();
    if SECRET_KEYS.iter().any(|secret| lower.ends_with(secret)) {
        return true;
    }
    let slip = || strsim::damerau_levenshtein(&lower, PASSWORD) <= PASSWORD_SLIPS;
    let part = PASSWORD_PARTS.iter().any(|part| lower.contains(part))
        || PASSWORD_NAMES.contains(&lower.as_str());
    !lower.ends_with(FILE_ENDING) && (part || key.len() <= LONGEST && slip())
}

/// Where the value of a plain key at the beginning of the line begins.
fn after_any_key(line: &str) -> Option<usize> {
    let key = line.trim_start_matches([' ', '-']);
    let end =
        key.find(|one: char| !(one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_'))?;
    (end > 0 && key[end..].starts_with(':')).then_some(end)
}

/// The line with every word that looks like a secret masked, unless it is called a public key.
pub(super) fn mask_words(line: &str) -> String {
    let is_base64 = |one: char| one.is_ascii_alphanumeric() || matches!(one, '+' | '/' | '=');
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_base64) {
        let end = rest[start..].find(|one| !is_base64(one)).map_or(rest.len(), |end| start + end);
        shown.push_str(&rest[..start]);
        let word = &rest[start..end];
        let before = shown.trim_end_matches(['"', '\'', ' ']);
        let public = before.ends_with(PUBLIC);
        let path = word.starts_with('/') && !word.ends_with('=');
        let secret = word.len() >= SHORTEST_SECRET && !public && !path;
        shown.push_str(if secret { MASK } else { word });
        rest = &rest[end..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

    fn masked(text: &str, number: usize) -> String {
        masked_line(&text.replace("KEY", KEY), number, &[]).unwrap()
    }

    #[test]
    fn what_stands_behind_a_secrets_key_is_not_shown() {
        for (line, shown) in [
            ("  private_key: KEY", "  private_key: ********"),
            ("  private_key: short # and why", "  private_key: ********"),
            ("  \"private_key\" : 'KEY'", "  \"private_key\" : ********"),
            ("{port: 1, preshared_key: abc, x: 1}", "{port: 1, preshared_key: ********"),
            ("previous_private_key:KEY", "previous_private_key:********"),
            ("private_key_file: /etc/nvgate/a.key", "private_key_file: /etc/nvgate/a.key"),
            ("private_key:", "private_key:"),
            ("- {asn: 1, password: hunter2, port: 1}", "- {asn: 1, password: ********"),
            ("  passwrod: hunter2", "  passwrod: ********"),
            ("  md5-key: hunter2", "  md5-key: ********"),
            ("  Passphrase: hunter2", "  Passphrase: ********"),
            ("é password : hunter2", "é password : ********"),
            ("  password_file: /etc/nvgate/a.key", "  password_file: /etc/nvgate/a.key"),
            ("  passive: true", "  passive: true"),
        ] {
            assert_eq!(masked(line, 1), shown);
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_not_shown_wherever_it_stands() {
        assert_eq!(masked("private_kye: KEY", 1), "private_kye: ********");
        assert_eq!(masked("x: &secret KEY", 1), "x: &secret ********");
        assert_eq!(masked("[KEY, 'KEY']", 1), "[********, '********']");
        assert_eq!(masked("public_key: KEY", 1), "public_key: ********");
        let message = format!("public key {KEY} is used twice");
        assert_eq!(mask_words(&message), message);
    }

    #[test]
    fn a_secret_on_lines_below_its_key_is_not_shown() {
        for text in
            ["a:\n  private_key:\n    short\n  port: 1", "a:\n  private_key: >-\n\n    sho\n"]
        {
            let line = text.lines().position(|line| line.trim().starts_with("sho")).unwrap() + 1;
            assert_eq!(masked(text, line), "    ********");
        }
        assert_eq!(masked("  private_key: x\n  port: 1", 2), "  port: 1");
        assert_eq!(masked("- private_key: x\n  port: 1", 2), "  port: 1");
        assert_eq!(masked("- password: x\n  ipv4: {a: 1}", 2), "  ipv4: {a: 1}");
    }

    #[test]
    fn what_the_parser_quotes_of_a_line_with_a_secret_is_not_shown() {
        let masked = |text| masked_words_of_parser(text, 1, "unsupported tag `!x`; `y` is not");
        assert_eq!(masked("password: !x y"), "unsupported tag `********`; `********` is not");
        assert_eq!(masked("port: !x y"), "unsupported tag `!x`; `y` is not");
    }

    #[test]
    fn a_place_where_a_secret_is_known_to_be_is_not_shown() {
        assert_eq!(masked_line("a: [x, y]", 1, &[5]).unwrap(), "a: [********");
        assert_eq!(masked_line("a", 2, &[]), None);
    }

    proptest! {
        #[test]
        fn a_key_is_never_shown(before in "[ -~\n]{0,40}", after in "[ -~\n]{0,40}") {
            prop_assume!(!before.trim_end_matches(['"', '\'', ' ']).ends_with(PUBLIC));
            let text = format!("{before} {KEY}{after}");
            for number in 1..=text.lines().count() {
                let line = masked_line(&text, number, &[]).unwrap();
                prop_assert!(!line.contains(KEY), "{line}");
            }
        }
    }
}
