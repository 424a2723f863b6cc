//! What a certificate's subject calls its holder, for people: it decides nothing.

use rustls::pki_types::CertificateDer;

/// `id-at-commonName`, RFC 5280, appendix A.1.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;

/// The last common name of a certificate's subject; `None` if there is none, or it is written in
/// an encoding that no authority of today uses.
#[must_use]
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    of_subject(parsed.subject())
}

/// `subject` is what is in an `RDNSequence`: sets of pairs of a type and a value.
fn of_subject(mut subject: &[u8]) -> Option<String> {
    let mut name = None;
    while !subject.is_empty() {
        let (SET, mut set, rest) = element(subject)? else {
            return None;
        };
        subject = rest;
        while !set.is_empty() {
            let (SEQUENCE, pair, rest) = element(set)? else {
                return None;
            };
            set = rest;
            let (OBJECT_IDENTIFIER, kind, value) = element(pair)? else {
                return None;
            };
            if kind == COMMON_NAME {
                let (UTF8_STRING | PRINTABLE_STRING, text, _) = element(value)? else {
                    return None;
                };
                name = Some(String::from_utf8(text.to_vec()).ok()?);
            }
        }
    }
    name
}

/// The tag and the content of the first element of `der`, and what follows it. X.690, 8.1, with
/// lengths of up to 65,535 bytes.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&[length], rest) = rest.split_first_chunk()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject as _;
    use weir_model::NodeId;

    use super::*;
    use crate::issue::{Authority, Subject};

    fn encoded(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("a short one");
        [&[tag, length], content].concat()
    }

    fn pair(kind: &[u8], tag: u8, text: &str) -> Vec<u8> {
        let pair = [
            encoded(OBJECT_IDENTIFIER, kind),
            encoded(tag, text.as_bytes()),
        ];
        encoded(SET, &encoded(SEQUENCE, &pair.concat()))
    }

    #[test]
    fn a_certificate_says_whose_it_is() {
        let authority = Authority::create(Duration::from_secs(60)).expect("an authority");
        for name in ["ada", "Ada of the night shift", "Åsa"] {
            let subject = Subject::Node(NodeId::from_u128(1));
            let issued = authority.issue(subject, name, Duration::from_secs(60));
            let issued = issued.expect("a certificate");
            let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes());
            let certificate = certificate.expect("PEM");
            assert_eq!(common_name(&certificate).as_deref(), Some(name));
        }
    }

    #[test]
    fn the_last_of_several_names_counts_and_other_parts_do_not() {
        let organisation = pair(&[0x55, 0x04, 0x0a], UTF8_STRING, "Example");
        let names = ["one", "two"].map(|name| pair(COMMON_NAME, PRINTABLE_STRING, name));
        let subject = [organisation.clone(), names.concat(), organisation.clone()].concat();
        assert_eq!(of_subject(&subject).as_deref(), Some("two"));
        assert_eq!(of_subject(&organisation), None);
        assert_eq!(of_subject(&[]), None);
    }

    #[test]
    fn whatever_is_cut_or_changed_is_read_within_its_bounds() {
        let whole = pair(COMMON_NAME, UTF8_STRING, "ada");
        for length in 1..whole.len() {
            assert_eq!(of_subject(&whole[..length]), None, "{length}");
        }
        for at in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut other = whole.clone();
                other[at] = byte;
                let _ = of_subject(&other);
            }
        }
        let no_text = pair(COMMON_NAME, 0x1e, "ada");
        assert_eq!(of_subject(&no_text), None, "UCS-2");
    }
}
