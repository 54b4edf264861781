//! Asking before something happens.

use std::io::{IsTerminal as _, Write as _};

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
    let mut output = std::io::stdout();
    loop {
        write!(output, "{question} ")?;
        output.flush()?;
        let mut answer = String::new();
        if std::io::stdin().read_line(&mut answer)? == 0 {
            writeln!(output)?;
            if silence == Silence::GoOn && !std::io::stdin().is_terminal() {
                anstream::eprintln!("There is no terminal to ask at: going on, as with --skip-confirmation.");
                return Ok(true);
            }
            return Ok(false);
        }
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "n" | "no" | "" => return Ok(false),
            _ => {}
        }
    }
}
