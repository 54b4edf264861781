//! Asking before something happens.

use std::io::{BufRead, IsTerminal as _, Write};

use crate::failure::Failure;

/// What no answer at all means, when there is no terminal to ask at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Going on: the command adds or changes and can be run again, or what it takes away one command brings back.
    GoOn,
    /// Stopping: the command takes away.
    Stop,
}

/// Asks a question until the answer is yes or no. Standard input that ends without an answer is [`Silence`]: a script
/// that runs `istioctl install` wants it done, one that removes must say `-y`.
pub fn ask(question: &str, silence: Silence) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    let is_terminal = stdin.is_terminal();
    let answer = answer(&mut stdin.lock(), &mut std::io::stdout(), question)?;
    match answer {
        Some(answer) => Ok(answer),
        None if silence == Silence::Stop => Err(Failure::new(
            "nobody answered, and nothing was changed; to go on without being asked, pass --skip-confirmation (-y)",
        )),
        None if is_terminal => Ok(false),
        None => {
            anstream::eprintln!("There is no terminal to ask at: going on, as with --skip-confirmation.");
            Ok(true)
        }
    }
}

/// Yes or no; nothing if the input ends without a word. One that ends after words that are neither is no.
fn answer(input: &mut impl BufRead, output: &mut impl Write, question: &str) -> Result<Option<bool>, Failure> {
    let mut said = None;
    loop {
        write!(output, "{question} ")?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            writeln!(output)?;
            return Ok(said);
        }
        match line.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(Some(true)),
            "n" | "no" | "" => return Ok(Some(false)),
            _ => said = Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_silence_is_no_answer() {
        let check = |said: &str| answer(&mut said.as_bytes(), &mut Vec::new(), "Proceed?").unwrap();
        assert_eq!(check("y\n"), Some(true));
        assert_eq!(check("what\nYES\n"), Some(true));
        assert_eq!(check("\n"), Some(false));
        assert_eq!(check("maybe\n"), Some(false));
        assert_eq!(check(""), None);
    }
}
