//! What is said of words after a command that are too few or too many, in Istio's sentences (revisions.md §3.1, §8): it
//! ends such a command with 1, where a wrong flag ends with 64.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::absent::above;

/// Commands by the names under which they are not aliases; what is said without a word, and of one word too many.
const SENTENCES: [(&str, &str, &str); 6] = [
    (
        "tag set",
        "must provide a tag for modification",
        "must provide a single tag for creation",
    ),
    (
        "tag generate",
        "must provide a tag for modification",
        "must provide a single tag for creation",
    ),
    ("tag list", "", "tag list command does not accept arguments"),
    (
        "tag remove",
        "must provide a tag for removal",
        "must provide a single tag for removal",
    ),
    (
        "tag undo",
        "must provide a tag to move back",
        "must provide a single tag to move back",
    ),
    ("uninstall", "", "istioctl uninstall does not take arguments"),
];

/// The sentence for a mistake, if it is one of these.
pub fn sentence(error: &clap::Error) -> Option<String> {
    let command = above(error);
    if error.kind() == ErrorKind::InvalidSubcommand && command == "tag " {
        return Some(format!(
            "unknown subcommand {:?}",
            named(error, ContextKind::InvalidSubcommand)?
        ));
    }
    let (_, none, several) = SENTENCES.iter().find(|(name, ..)| *name == command.trim_end())?;
    match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            let missing = named(error, ContextKind::InvalidArg)?;
            if missing.contains('<') && !missing.starts_with('-') {
                return Some((*none).to_owned());
            }
            let flag = missing.trim_start_matches('-').split_whitespace().next()?;
            Some(format!("required flag(s) {flag:?} not set"))
        }
        ErrorKind::UnknownArgument if !named(error, ContextKind::InvalidArg)?.starts_with('-') => {
            Some((*several).to_owned())
        }
        _ => None,
    }
}

/// What a mistake is about: of several arguments that are missing, a word rather than a flag.
fn named(error: &clap::Error, context: ContextKind) -> Option<String> {
    match error.get(context)? {
        ContextValue::String(name) => Some(name.clone()),
        ContextValue::Strings(names) => {
            let word = names.iter().find(|name| !name.starts_with('-'));
            word.or(names.first()).cloned()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn check(line: &str, expected: Option<&str>) {
        let arguments = std::iter::once("istioctl").chain(line.split(' '));
        let error = Cli::try_parse_from(arguments).unwrap_err();
        assert_eq!(sentence(&error).as_deref(), expected, "{line}");
    }

    #[test]
    fn too_few_and_too_many_words() {
        check("tag set", Some("must provide a tag for modification"));
        check("tag create --revision a", Some("must provide a tag for modification"));
        check("tag set prod", Some("required flag(s) \"revision\" not set"));
        check(
            "tag generate a b --revision c",
            Some("must provide a single tag for creation"),
        );
        check("tag list a", Some("tag list command does not accept arguments"));
        check("tag show a", Some("tag list command does not accept arguments"));
        check("tag remove", Some("must provide a tag for removal"));
        check("tag delete a b", Some("must provide a single tag for removal"));
        check("tag undo", Some("must provide a tag to move back"));
        check("tag bogus", Some("unknown subcommand \"bogus\""));
        check("uninstall canary", Some("istioctl uninstall does not take arguments"));
        // A flag that does not exist is another mistake.
        check("tag set a --bogus", None);
        check("uninstall --bogus", None);
        check("bogus", None);
    }
}
