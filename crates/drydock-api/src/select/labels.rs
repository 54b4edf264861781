//! `labelSelector` text, with the error messages of the real server.

use serde_json::Value;

use crate::kinds::names;

/// Longest selector looked at, bytes.
const MAX_LEN: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

/// A parsed label selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<(String, Test)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    End,
    Word(String),
    Symbol(&'static str),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::End => "",
            Self::Word(word) => word,
            Self::Symbol(symbol) => symbol,
        }
    }
}

impl LabelSelector {
    /// Parses a selector; an empty one matches everything.
    ///
    /// # Errors
    /// The message of the real server.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err("the label selector is too long".into());
        }
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        parser.requirements().map(Self)
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object's labels satisfy it.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.0.iter().all(|(key, test)| {
            let value = labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
            match (test, value) {
                (Test::Exists, value) => value.is_some(),
                (Test::Absent, value) => value.is_none(),
                (Test::In(values), value) => value.is_some_and(|value| values.iter().any(|one| one == value)),
                (Test::NotIn(values), value) => value.is_none_or(|value| values.iter().all(|one| one != value)),
                (Test::Greater(bound), value) => number(value).is_some_and(|value| value > *bound),
                (Test::Less(bound), value) => number(value).is_some_and(|value| value < *bound),
            }
        })
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

fn tokens(text: &str) -> Vec<Token> {
    const SYMBOLS: [&str; 10] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<", ""];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS
            .iter()
            .find(|symbol| !symbol.is_empty() && rest.starts_with(**symbol))
        {
            tokens.push(Token::Symbol(symbol));
            rest = rest[symbol.len()..].trim_start();
            continue;
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || "=!(),><".contains(c))
            .unwrap_or(rest.len());
        tokens.push(Token::Word(rest[..end].to_owned()));
        rest = rest[end..].trim_start();
    }
    tokens.push(Token::End);
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<(String, Test)>, String> {
        let mut found = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {
                    let requirement = self
                        .requirement()
                        .map_err(|error| format!("unable to parse requirement: {error}"))?;
                    found.push(requirement);
                    match self.next() {
                        Token::End => return Ok(found),
                        Token::Symbol(",") => {
                            if !matches!(self.peek(), Token::Word(_) | Token::Symbol("!")) {
                                let next = self.peek();
                                return Err(format!("found '{}', expected: identifier after ','", next.text()));
                            }
                        }
                        other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
                    }
                }
                Token::End => return Ok(found),
                other => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<(String, Test), String> {
        let negated = self.peek() == Token::Symbol("!");
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        let problems = names::qualified_name(&key);
        if let Some(problem) = problems.first() {
            return Err(format!("key: Invalid value: {key:?}: {problem}"));
        }
        if negated {
            return Ok((key, Test::Absent));
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok((key, Test::Exists));
        }
        let operator = self.next();
        let test = match operator.text() {
            "in" => Test::In(self.values(&key)?),
            "notin" => Test::NotIn(self.values(&key)?),
            "=" | "==" => Test::In(vec![self.exact(&key)?]),
            "!=" => Test::NotIn(vec![self.exact(&key)?]),
            ">" | "gt" => Test::Greater(self.bound(&key)?),
            "<" | "lt" => Test::Less(self.bound(&key)?),
            other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        Ok((key, test))
    }

    fn exact(&mut self, key: &str) -> Result<String, String> {
        let value = match self.peek() {
            Token::End | Token::Symbol(",") => String::new(),
            Token::Word(word) => {
                self.next();
                word
            }
            Token::Symbol(symbol) => return Err(format!("found '{symbol}', expected: identifier")),
        };
        check_value(key, 0, &value)?;
        Ok(value)
    }

    fn bound(&mut self, key: &str) -> Result<i64, String> {
        let text = self.exact(key)?;
        text.parse().map_err(|_| {
            format!("values[0]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer")
        })
    }

    fn values(&mut self, key: &str) -> Result<Vec<String>, String> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    check_value(key, values.len(), &word)?;
                    values.push(word);
                    match self.next() {
                        Token::Symbol(",") => {
                            if self.peek() == Token::Symbol(")") {
                                values.push(String::new());
                            }
                        }
                        Token::Symbol(")") => return Ok(values),
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Symbol(",") => values.push(String::new()),
                Token::Symbol(")") => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
            }
        }
    }
}

fn check_value(key: &str, index: usize, value: &str) -> Result<(), String> {
    match names::label_value(value) {
        Some(problem) => Err(format!("values[{index}][{key}]: Invalid value: {value:?}: {problem}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_select() {
        let object = json!({"metadata": {"labels": {"a": "1", "tier": "web"}}});
        let check = |text: &str, expected: bool| {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&object), expected, "{text}");
        };
        check("", true);
        check("a=1,tier in (web, db)", true);
        check("a==1,!b", true);
        check("a!=1", false);
        check("b!=1", true);
        check("tier notin (web)", false);
        check("a>0", true);
        check("a lt 1", false);
    }

    #[test]
    fn errors_are_those_of_the_real_server() {
        let check = |text: &str, expected: &str| assert_eq!(LabelSelector::parse(text).unwrap_err(), expected);
        check("a in b", "unable to parse requirement: found 'b' expected: '('");
        check("=x", "found '=', expected: !, identifier, or 'end of string'");
        check(
            "bad key=x",
            "unable to parse requirement: found 'key', expected: in, notin, =, ==, !=, gt, lt",
        );
        check("a,,b", "found ',', expected: identifier after ','");
    }
}
