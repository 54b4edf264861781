//! Texts with `*` at either end, and metadata of a request's token, as Envoy's matchers.

use xds::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use xds::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, RegexMatcher, StringMatcher, ValueMatcher, list_matcher, metadata_matcher,
    string_matcher::MatchPattern, value_matcher,
};

const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
const JWT_PAYLOAD: &str = "payload";

fn string(pattern: MatchPattern, ignore_case: bool) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ignore_case,
    }
}

pub(super) fn regex(regex: String) -> StringMatcher {
    string(
        MatchPattern::SafeRegex(RegexMatcher {
            regex,
            ..Default::default()
        }),
        false,
    )
}

pub(super) fn exact(text: &str) -> StringMatcher {
    string(MatchPattern::Exact(text.to_owned()), false)
}

pub(super) fn prefix(text: &str) -> StringMatcher {
    string(MatchPattern::Prefix(text.to_owned()), false)
}

pub(super) fn suffix(text: &str) -> StringMatcher {
    string(MatchPattern::Suffix(text.to_owned()), false)
}

/// Any text but the empty one.
pub(super) fn any() -> StringMatcher {
    regex(".+".to_owned())
}

/// Text for a regular expression: nothing in it has a meaning there.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// A pattern after a fixed beginning.
pub(super) fn pattern(text: &str, start: &str) -> StringMatcher {
    if text == "*" {
        any()
    } else if let Some(end) = text.strip_prefix('*') {
        if start.is_empty() {
            suffix(end)
        } else {
            regex(format!("{start}.*{}", quoted(end)))
        }
    } else if let Some(begin) = text.strip_suffix('*') {
        prefix(&format!("{start}{begin}"))
    } else {
        exact(&format!("{start}{text}"))
    }
}

/// A header with a pattern.
pub(super) fn header(name: &str, text: &str, ignore_case: bool) -> HeaderMatcher {
    let specifier = if text == "*" {
        HeaderMatchSpecifier::PresentMatch(true)
    } else {
        let pattern = if let Some(end) = text.strip_prefix('*') {
            MatchPattern::Suffix(end.to_owned())
        } else if let Some(begin) = text.strip_suffix('*') {
            MatchPattern::Prefix(begin.to_owned())
        } else {
            MatchPattern::Exact(text.to_owned())
        };
        HeaderMatchSpecifier::StringMatch(string(pattern, ignore_case))
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

pub(super) fn value(matcher: StringMatcher) -> ValueMatcher {
    ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::StringMatch(matcher)),
    }
}

/// One element of a list.
pub(super) fn one_of(inner: ValueMatcher) -> ValueMatcher {
    ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(ListMatcher {
            match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(inner))),
        }))),
    }
}

/// One of several.
pub(super) fn either(mut matchers: Vec<ValueMatcher>) -> ValueMatcher {
    if matchers.len() == 1 {
        return matchers.remove(0);
    }
    ValueMatcher {
        match_pattern: Some(value_matcher::MatchPattern::OrMatch(OrMatcher {
            value_matchers: matchers,
        })),
    }
}

/// Metadata of a filter under a path of keys.
pub(super) fn metadata<'a>(
    filter: &str,
    path: impl IntoIterator<Item = &'a str>,
    value: ValueMatcher,
) -> MetadataMatcher {
    MetadataMatcher {
        filter: filter.to_owned(),
        path: path
            .into_iter()
            .map(|key| metadata_matcher::PathSegment {
                segment: Some(metadata_matcher::path_segment::Segment::Key(key.to_owned())),
            })
            .collect(),
        value: Some(value),
        ..Default::default()
    }
}

/// A claim of the request's token, by its text.
pub(super) fn plain_claim(name: &str, matcher: StringMatcher) -> MetadataMatcher {
    metadata(JWT_FILTER, [JWT_PAYLOAD, name], value(matcher))
}

/// A claim of the request's token, which may be a text or a list of texts.
pub(super) fn list_claim(path: &[String], matcher: ValueMatcher) -> MetadataMatcher {
    let keys = std::iter::once(JWT_PAYLOAD).chain(path.iter().map(String::as_str));
    metadata(JWT_FILTER, keys, either(vec![one_of(matcher.clone()), matcher]))
}

/// A claim of the request's token with one text.
pub(crate) fn claim(path: &[String], matcher: StringMatcher) -> MetadataMatcher {
    list_claim(path, value(matcher))
}
