//! Bytes that several resources have in common, kept once.

use bytes::Bytes;
use hashbrown::HashMap;
use xds::resource::ContentHash;

/// Fewest entries before unused ones are looked for.
const FEW: usize = 1024;

/// Parts by their content.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    known: HashMap<ContentHash, Bytes>,
    sweep_at: usize,
}

impl Parts {
    /// The same bytes, where they already are if they are known.
    pub(crate) fn share(&mut self, part: Bytes) -> Bytes {
        if self.known.len() >= self.sweep_at.max(FEW) {
            self.known.retain(|_, part| !part.is_unique());
            self.sweep_at = 2 * self.known.len();
        }
        self.known.entry(ContentHash::of(&part)).or_insert(part).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parts_are_one_and_unused_ones_go() {
        let mut parts = Parts::default();
        let kept = parts.share(Bytes::from(vec![1, 2, 3]));
        assert_eq!(parts.share(Bytes::from(vec![1, 2, 3])).as_ptr(), kept.as_ptr());
        for number in 0..10_000_u32 {
            parts.share(Bytes::from(number.to_be_bytes().to_vec()));
        }
        assert!(parts.known.len() <= FEW + 1, "{}", parts.known.len());
        assert_eq!(parts.share(Bytes::from(vec![1, 2, 3])).as_ptr(), kept.as_ptr());
    }
}
