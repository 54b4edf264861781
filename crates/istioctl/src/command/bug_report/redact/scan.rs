//! Looking for a character. All looks at a text that may be long go through here, so that a test can count them.

/// Where the first character is that is looked for.
pub fn find(text: &str, is_wanted: impl Fn(char) -> bool) -> Option<usize> {
    let found = text.find(is_wanted);
    looked(found.unwrap_or(text.len()));
    found
}

/// Where the last one is.
pub fn rfind(text: &str, is_wanted: impl Fn(char) -> bool) -> Option<usize> {
    let found = text.rfind(is_wanted);
    looked(text.len() - found.unwrap_or(0));
    found
}

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// So many bytes were gone through.
pub fn looked(bytes: usize) {
    #[cfg(test)]
    STEPS.set(STEPS.get() + bytes);
    #[cfg(not(test))]
    let _ = bytes;
}

/// Counts from here on.
#[cfg(test)]
pub fn reset() {
    STEPS.set(0);
}

/// Bytes that were gone through.
#[cfg(test)]
pub fn steps() -> usize {
    STEPS.get()
}
