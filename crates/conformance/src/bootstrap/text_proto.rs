//! ProxyConfig in protobuf's text format → its JSON. Only what these files use: scalars, messages, lists.

use serde_json::{Map, Value};

/// Messages in messages are not deeper than this.
const MAX_DEPTH: usize = 16;

/// Parses a message.
pub fn parse(text: &str) -> Result<Map<String, Value>, String> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    let message = message(&mut tokens, 0)?;
    match tokens.next() {
        None => Ok(message),
        Some(token) => Err(format!("unexpected {token:?}")),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Sign(char),
    Word(String),
    Text(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '{' | '}' | '[' | ']' | ':' => tokens.push(Token::Sign(c)),
            '"' => {
                let mut string = String::new();
                loop {
                    match chars.next().ok_or("a string does not end")? {
                        '"' => break,
                        '\\' => string.push(chars.next().ok_or("a string does not end")?),
                        c => string.push(c),
                    }
                }
                tokens.push(Token::Text(string));
            }
            c if c.is_whitespace() || c == ',' || c == ';' => {}
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || "_.-+".contains(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn message(tokens: &mut Tokens, depth: usize) -> Result<Map<String, Value>, String> {
    if depth > MAX_DEPTH {
        return Err("messages are nested too deeply".to_owned());
    }
    let mut fields = Map::new();
    while let Some(Token::Word(name)) = tokens.peek().cloned() {
        tokens.next();
        tokens.next_if_eq(&Token::Sign(':'));
        let value = shaped(&name, value(tokens, depth)?);
        // An enum's first value is the default, which JSON leaves out.
        if value != *"NONE" {
            fields.insert(camel(&name), value);
        }
    }
    Ok(fields)
}

fn value(tokens: &mut Tokens, depth: usize) -> Result<Value, String> {
    match tokens.next() {
        Some(Token::Text(text)) => Ok(text.into()),
        Some(Token::Word(word)) => Ok(match word.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            _ => word.parse::<i64>().map_or_else(|_| word.as_str().into(), Value::from),
        }),
        Some(Token::Sign('{')) => {
            let fields = message(tokens, depth + 1)?;
            match tokens.next() {
                Some(Token::Sign('}')) => Ok(fields.into()),
                other => Err(format!("expected '}}', found {other:?}")),
            }
        }
        Some(Token::Sign('[')) => {
            let mut list = Vec::new();
            while tokens.next_if_eq(&Token::Sign(']')).is_none() {
                list.push(value(tokens, depth + 1)?);
            }
            Ok(list.into())
        }
        other => Err(format!("expected a value, found {other:?}")),
    }
}

/// Well-known types and maps have another shape in JSON.
fn shaped(name: &str, value: Value) -> Value {
    match (name, &value) {
        (_, Value::Object(fields)) if name.ends_with("_duration") => {
            fields.get("seconds").map_or(value.clone(), |s| format!("{s}s").into())
        }
        ("stats_compression" | "global_downstream_connection_limit", Value::Object(fields)) => {
            fields.get("value").cloned().unwrap_or(value)
        }
        ("runtime_values", Value::Array(entries)) => {
            let entry = |e: &Value| Some((e.get("key")?.as_str()?.to_owned(), e.get("value")?.clone()));
            entries.iter().filter_map(entry).collect::<Map<_, _>>().into()
        }
        _ => value,
    }
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut all, part| {
        let mut chars = part.chars();
        all.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        all.push_str(chars.as_str());
        all
    })
}
