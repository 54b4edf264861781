//! Values of headers that proxies write: text, with `%VARIABLE%` or `%VARIABLE(arguments)%` in it, and `%%` for a sign.

/// What is read next.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Text,
    Name,
    /// Behind `(`: a list in brackets, or an argument.
    Arguments,
    /// A quoted text of a list.
    Quoted,
    /// An argument, or the inside of a quoted text.
    Argument,
    /// Behind a quoted text.
    Delimiter,
    /// Behind a list.
    Parenthesis,
    /// Behind `)`.
    End,
}

/// Whether proxies can read a value; what they would say otherwise.
pub(super) fn check(value: &str) -> Result<(), &'static str> {
    if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
        return Err("it has control characters");
    }
    let mut state = State::Text;
    let mut bytes = value.bytes().peekable();
    while let Some(byte) = bytes.next() {
        state = match (state, byte) {
            (State::Text, b'%') => match bytes.peek() {
                None => return Err("a single % is written as %%"),
                Some(b'%') => {
                    bytes.next();
                    State::Text
                }
                Some(_) => State::Name,
            },
            (State::Text, _) => State::Text,
            (State::Name | State::End, b'%') => State::Text,
            (State::Name, b'(') => State::Arguments,
            (State::Name, _) => State::Name,
            (State::Arguments, b'[') => State::Quoted,
            (State::Arguments | State::Quoted | State::Delimiter | State::Parenthesis | State::End, b' ') => state,
            (State::Arguments, _) => State::Argument,
            (State::Quoted, b'"') => State::Argument,
            (State::Quoted, _) => return Err("a quotation mark is missing"),
            (State::Argument, b'\\') => match bytes.next() {
                Some(_) => State::Argument,
                None => return Err("a backslash ends it"),
            },
            (State::Argument | State::Parenthesis, b')') => State::End,
            (State::Argument, b'"') => State::Delimiter,
            (State::Argument, _) => State::Argument,
            (State::Delimiter, b',') => State::Quoted,
            (State::Delimiter, b']') => State::Parenthesis,
            (State::Delimiter, _) => return Err("a comma or bracket is missing"),
            (State::Parenthesis, _) => return Err("a closing parenthesis is missing"),
            (State::End, _) => return Err("a closing % is missing"),
        };
    }
    match state {
        State::Text => Ok(()),
        _ => Err("a variable does not end; a single % is written as %%"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn values() {
        for good in [
            "",
            "a",
            "100%%",
            "%HOSTNAME%",
            "a %HOSTNAME% b",
            "%REQ(x-a)%",
            r#"%DYNAMIC_METADATA(["a", "b"])%"#,
            "%START_TIME(%s)%",
        ] {
            assert_eq!(super::check(good), Ok(()), "{good}");
        }
        for bad in [
            "abc%123",
            "%",
            "%START_TIME%%",
            "%REQ(x",
            "%REQ(x)",
            "%REQ(x)a%",
            r#"%M(["a" "b"])%"#,
            "a\nb",
        ] {
            assert!(super::check(bad).is_err(), "{bad}");
        }
    }
}
