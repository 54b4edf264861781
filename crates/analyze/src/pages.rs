//! The pages of messages, `docs/messages`, so that a program has them with it.

use crate::message::Code;

macro_rules! pages {
    ($($code:literal)+) => {
        &[$(($code, include_str!(concat!("../../../docs/messages/", $code, ".md")))),+]
    };
}

const PAGES: &[(&str, &str)] = pages!(
    "IST0002" "IST0101" "IST0102" "IST0103" "IST0106" "IST0107" "IST0108" "IST0109"
    "IST0110" "IST0111" "IST0112" "IST0116" "IST0118" "IST0123" "IST0125" "IST0126"
    "IST0127" "IST0128" "IST0129" "IST0130" "IST0131" "IST0132" "IST0133" "IST0134"
    "IST0135" "IST0136" "IST0137" "IST0138" "IST0139" "IST0140" "IST0141" "IST0142"
    "IST0144" "IST0145" "IST0146" "IST0147" "IST0148" "IST0149" "IST0150" "IST0151"
    "IST0152" "IST0153" "IST0154" "IST0155" "IST0156" "IST0157" "IST0158" "IST0159"
    "IST0160" "IST0161" "IST0162" "IST0163" "IST0164" "IST0165" "IST0166" "IST0167"
    "IST0169" "IST0170" "IST0171" "IST0172" "IST0173" "IST0174" "IST0175" "IST0176" "IST0177"
    "TRY0001" "TRY0002" "TRY0003"
);

/// The page of a message.
pub fn page(code: &Code) -> Option<&'static str> {
    let (_, page) = PAGES.iter().find(|(known, _)| *known == code.code)?;
    Some(page)
}
