//! A text from which secrets are cut.

use std::borrow::Cow;

use super::GONE;

/// A text, and what of it was gone through.
pub struct Cut<'a> {
    text: &'a str,
    out: String,
    done: usize,
}

impl<'a> Cut<'a> {
    /// Nothing is cut yet.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            out: String::new(),
            done: 0,
        }
    }

    /// Where the last cut ended; the next may not begin before.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Takes a secret out, and counts it.
    pub fn out(&mut self, from: usize, to: usize, replaced: &mut usize) {
        self.out.push_str(&self.text[self.done..from]);
        self.out.push_str(GONE);
        self.done = to;
        *replaced += 1;
    }

    /// What is left.
    pub fn finish(mut self) -> Cow<'a, str> {
        if self.done == 0 {
            return Cow::Borrowed(self.text);
        }
        self.out.push_str(&self.text[self.done..]);
        Cow::Owned(self.out)
    }
}
