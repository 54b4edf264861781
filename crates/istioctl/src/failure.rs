//! How a command ends when it does not end well (revisions.md §10.2).

use std::process::ExitCode;

use install::api_server::RequestError;

/// A flag or command that does not exist, or a wrong value.
pub const USAGE: u8 = 64;
/// `analyze`: a file that cannot be read.
pub const DATA: u8 = 65;
/// `analyze`: findings at or above the threshold.
pub const FINDINGS: u8 = 79;

/// The end of a command: what to say, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
    /// The message is no error.
    plain: bool,
}

impl Failure {
    /// Ends with exit code 1 and `Error: <message>`.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
            plain: false,
        }
    }

    /// Ends with another exit code.
    pub fn with_code(message: impl Into<String>, code: u8) -> Self {
        Self {
            message: message.into(),
            code,
            plain: false,
        }
    }

    /// What is said.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The user said no.
    pub fn cancelled() -> Self {
        Self {
            message: "Cancelled.".to_owned(),
            code: 1,
            plain: true,
        }
    }

    /// Two things differ, and the output says how.
    pub fn different() -> Self {
        Self {
            message: String::new(),
            code: 1,
            plain: true,
        }
    }

    /// Says it on standard error.
    pub fn report(self) -> ExitCode {
        match (self.plain, self.message.as_str()) {
            (true, "") => {}
            (true, message) => anstream::eprintln!("{message}"),
            (false, message) => anstream::eprintln!("Error: {message}"),
        }
        ExitCode::from(self.code)
    }
}

/// Errors of the libraries: their message says what to do, so it is passed on as it is.
macro_rules! from_error {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.to_string())
            }
        }
    )+};
}

from_error!(
    inject::config::ConfigError,
    inject::document::DocumentError,
    RequestError,
    install::apply::InstallError,
    install::assets::AssetError,
    install::component::ComponentError,
    install::difference::DifferenceError,
    install::input::InputError,
    install::uninstall::UninstallError,
    install::tag::TagError,
    install::yaml::YamlError,
    revision::name::NameError,
    status::forward::ForwardError,
    std::io::Error,
    serde_json::Error,
);
