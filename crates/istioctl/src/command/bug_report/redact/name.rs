//! Which names say that what they name is a secret.

/// Ends of the names of secrets, without case and separators: `clientSecret`, `api-key`, `DB_PASSWORD`.
const ENDS: [&str; 17] = [
    "accesskey",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "dockerconfigjson",
    "encryptionkey",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "secretkey",
    "sharedkey",
    "signingkey",
    "token",
];
/// Names that end so and name an object with a secret, not the secret.
const HARMLESS: [&str; 1] = ["imagepullsecret"];
/// Words in the name of a variable or header whose value is nobody's business.
const WORDS: [&str; 11] = [
    "accesskey",
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "private",
    "secret",
    "token",
];
/// Fields below which everything is public, whatever stands above: certificates.
const PUBLIC: [&str; 6] = [
    "caBundle",
    "ca_certificate",
    "certificateChain",
    "certificate_chain",
    "trustedCa",
    "trusted_ca",
];

/// Whether what is below the field is public.
pub fn is_public(field: &str) -> bool {
    PUBLIC.contains(&field)
}

/// A name of a field, variable, header or flag.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(pub &'a str);

impl Name<'_> {
    fn plain(self) -> String {
        let last = self.0.rsplit('/').next().unwrap_or_default();
        let letters = last.chars().filter(char::is_ascii_alphanumeric);
        letters.map(|letter| letter.to_ascii_lowercase()).collect()
    }

    /// Whether it is the name of a secret: `client_secret`, but not `secretName`.
    pub fn is_secret(self) -> bool {
        let plain = self.plain();
        let is_one = ENDS.iter().any(|end| plain.ends_with(end)) || self.is_short_password();
        is_one && !HARMLESS.contains(&plain.as_str())
    }

    /// `dbPass`, `smtp-pass`, `PGPASS`, `adminPwd`; but not `bypass`, and not the directory that a shell is in.
    fn is_short_password(self) -> bool {
        let lower = self.0.to_ascii_lowercase();
        let is_pass = self.0.ends_with("Pass") || ["_pass", "-pass", "pgpass"].iter().any(|end| lower.ends_with(end));
        is_pass || (lower.ends_with("pwd") && !matches!(self.0, "PWD" | "OLDPWD"))
    }

    /// Whether it is the name of one or of several, below which they stand.
    pub fn has_secrets(self) -> bool {
        let plain = self.plain();
        ENDS.iter()
            .any(|end| plain.ends_with(end) || plain.strip_suffix('s').is_some_and(|one| one.ends_with(end)))
            && !HARMLESS.iter().any(|harmless| plain.starts_with(harmless))
    }

    /// Whether it is the name of something that may hold one: for names of variables and headers, which are all there is
    /// to go by.
    pub fn mentions_secret(self) -> bool {
        let plain = self.plain();
        let upper = self.0.to_ascii_uppercase();
        let is_short = ["_KEY", "_PWD", "_PASS", "_AUTH"]
            .iter()
            .any(|end| upper.ends_with(end));
        is_short || self.is_short_password() || WORDS.iter().any(|word| plain.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_and_of_what_has_one() {
        for (name, is, mentions) in [
            ("password", true, true),
            ("clientSecret", true, true),
            ("example.com/api-key", true, true),
            ("db.password", true, true),
            ("secretName", false, true),
            ("credentialName", false, true),
            ("tokenAudience", false, true),
            ("imagePullSecret", false, true),
            ("secrets", false, true),
            ("STRIPE_KEY", false, true),
            ("DB_PASS", true, true),
            ("dbPass", true, true),
            ("adminPwd", true, true),
            ("bypass", false, false),
            ("PWD", false, false),
            ("key", false, false),
            ("PATH", false, false),
            ("monkey", false, false),
        ] {
            assert_eq!(
                (Name(name).is_secret(), Name(name).mentions_secret()),
                (is, mentions),
                "{name}"
            );
        }
    }
}
