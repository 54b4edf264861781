//! Labels and annotations of the pod, as the downward API writes them: lines of `key="value"`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// File with the labels.
pub const LABELS: &str = "./etc/istio/pod/labels";
/// File with the annotations.
pub const ANNOTATIONS: &str = "./etc/istio/pod/annotations";
/// Kubernetes allows 256 KiB of annotations; escaped they may be longer.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Reads one of the files; `None` if it is not there.
///
/// # Errors
/// If it is there and cannot be read, or a line is malformed.
pub fn read(path: &Path) -> io::Result<Option<BTreeMap<String, String>>> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    if length > MAX_FILE {
        return Err(io::Error::other(format!(
            "{} is longer than {MAX_FILE} bytes",
            path.display()
        )));
    }
    let text = std::fs::read_to_string(path)?;
    parse(&text)
        .map(Some)
        .map_err(|line| io::Error::other(format!("{}: malformed line {line:?}", path.display())))
}

/// Parses the file's text.
///
/// # Errors
/// The first line whose value is not a quoted string.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut map = BTreeMap::new();
    for line in text.lines() {
        if let Some((key, quoted)) = line.split_once('=') {
            let value = unquote(quoted).ok_or_else(|| line.chars().take(100).collect::<String>())?;
            map.insert(key.to_owned(), value);
        }
    }
    Ok(map)
}

/// A string literal of Go.
fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let simple = match chars.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            'x' => {
                bytes.push(u8::try_from(hex(&mut chars, 2)?).ok()?);
                continue;
            }
            'u' => char::from_u32(hex(&mut chars, 4)?)?,
            'U' => char::from_u32(hex(&mut chars, 8)?)?,
            c @ ('"' | '\\' | '\'') => c,
            _ => return None,
        };
        bytes.extend_from_slice(simple.encode_utf8(&mut [0; 4]).as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    let text: String = chars.by_ref().take(digits).collect();
    if text.len() == digits {
        u32::from_str_radix(&text, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_of_the_downward_api() {
        let text = "app=\"sleep\"\nnote=\"a \\\"b\\\"\\nc\\u00e9\\xc3\\xa9=\"\n";
        let map = parse(text).unwrap();
        assert_eq!(map["app"], "sleep");
        assert_eq!(map["note"], "a \"b\"\ncéé=");
    }

    #[test]
    fn malformed_lines_are_named() {
        assert_eq!(parse("a=\"x\"\nb=y").unwrap_err(), "b=y");
        assert!(parse("a=\"\\q\"").is_err());
        assert!(parse("a=\"\\u12\"").is_err());
    }
}
