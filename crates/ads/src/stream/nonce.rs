//! Numbers of responses, as proxies echo them.

use std::fmt;

/// Number of a response on its stream; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nonce(u64);

impl Nonce {
    /// The one after it.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Reads one as it was written; `None` if no response ever had it.
    pub fn parse(text: &str) -> Option<Self> {
        let written = text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let long = text.len() == WIDTH || (text.len() > WIDTH && !text.starts_with('0'));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| written && long)?;
        (number > 0).then_some(Self(number))
    }

    /// As tools show it: nothing if there is none.
    pub fn shown(self) -> String {
        if self.0 == 0 { String::new() } else { self.to_string() }
    }
}

/// Fewest digits.
const WIDTH: usize = 8;

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0WIDTH$x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        for number in [1, 0xabc, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            assert_eq!(Nonce::parse(&Nonce(number).to_string()), Some(Nonce(number)));
        }
        for text in [
            "",
            "1",
            "00000000",
            "0000000A",
            "+0000001",
            "000000001",
            "nonsense",
            "10000000000000000",
        ] {
            assert_eq!(Nonce::parse(text), None, "{text}");
        }
    }
}
