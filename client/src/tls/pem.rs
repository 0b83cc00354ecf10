//! PEM files: what is wanted of them, and what is wrong with those that lack it.

use std::fmt;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Why a PEM file cannot be used. The text is a sentence about the file, without
/// its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemError {
    wanted: Wanted,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Certificate,
    PrivateKey,
    RevocationList,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Empty,
    ByteOrderMark,
    Utf16,
    Der,
    Indented,
    /// Nothing in it is in PEM form.
    NoSection,
    Encrypted,
    /// A private key in a form of this name.
    Unsupported(String),
    /// It has sections, but none that is wanted; their names.
    Others(Vec<String>),
    /// A section of this name is cut off.
    CutOff(String),
    Damaged(String),
}

/// The certificates in `pem`, in their order; at least one.
///
/// # Errors
/// If there is none, or something in it cannot be read.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    sections(pem, Wanted::Certificate)
}

/// The first private key in `pem`: PKCS #8, PKCS #1 or SEC 1.
///
/// # Errors
/// If there is none, or something in it cannot be read.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let wanted = Wanted::PrivateKey;
    // A key next to an encrypted one is not the one that was meant.
    if labels(pem).any(|label| label == "ENCRYPTED PRIVATE KEY") || has_encrypted_headers(pem) {
        let fault = Fault::Encrypted;
        return Err(PemError { wanted, fault });
    }
    let mut keys = sections::<PrivateKeyDer<'static>>(pem, wanted)?;
    Ok(keys.swap_remove(0))
}

/// The certificate revocation lists in `pem`; at least one.
///
/// # Errors
/// If there is none, or something in it cannot be read.
pub fn revocation_lists(
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    sections(pem, Wanted::RevocationList)
}

/// At least one.
fn sections<T: PemObject>(pem: &[u8], wanted: Wanted) -> Result<Vec<T>, PemError> {
    let wrong = |fault| Err(PemError { wanted, fault });
    // What is indented or behind a mark would be passed over, and the next section
    // taken for the first.
    if let Some(fault) = hides_sections(pem) {
        return wrong(fault);
    }
    let all: Result<Vec<T>, _> = T::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => wrong(missing(pem, wanted)),
        Err(pem::Error::MissingSectionEnd { end_marker }) => {
            wrong(Fault::CutOff(printable(&end_marker)))
        }
        Err(pem::Error::IllegalSectionStart { line }) => wrong(Fault::Damaged(format!(
            "its line `{}` is not a valid BEGIN line",
            printable(&line)
        ))),
        Err(pem::Error::Base64Decode(_)) => {
            wrong(Fault::Damaged("its base64 is not valid".to_owned()))
        }
        Err(error) => wrong(Fault::Damaged(error.to_string())),
    }
}

fn hides_sections(pem: &[u8]) -> Option<Fault> {
    if pem.starts_with(UTF8_MARK) {
        return Some(Fault::ByteOrderMark);
    }
    if UTF16_MARKS.iter().any(|mark| pem.starts_with(mark)) {
        return Some(Fault::Utf16);
    }
    let indented = lines(pem).any(|line| {
        let text = line.trim_ascii_start();
        text.len() < line.len() && text.starts_with(b"-----BEGIN ")
    });
    indented.then_some(Fault::Indented)
}

/// What there is instead.
fn missing(pem: &[u8], wanted: Wanted) -> Fault {
    let found: Vec<String> = labels(pem).take(4).collect();
    if wanted == Wanted::PrivateKey
        && let Some(form) = found.iter().find(|label| label.ends_with("PRIVATE KEY"))
    {
        return Fault::Unsupported(form.clone());
    }
    if !found.is_empty() {
        return Fault::Others(found);
    }
    match pem {
        // The head of an ASN.1 SEQUENCE of more than 127 bytes.
        [0x30, 0x81..=0x83, ..] => Fault::Der,
        _ if pem.trim_ascii().is_empty() => Fault::Empty,
        _ => Fault::NoSection,
    }
}

/// The names of the sections.
fn labels(pem: &[u8]) -> impl Iterator<Item = String> {
    lines(pem).filter_map(|line| {
        let rest = line.trim_ascii_start().strip_prefix(b"-----BEGIN ")?;
        Some(printable(rest).trim_end_matches(['-', ' ']).to_owned())
    })
}

/// Keys in the old form say in a header that they are encrypted.
fn has_encrypted_headers(pem: &[u8]) -> bool {
    lines(pem).any(|line| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
}

fn lines(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    pem.split(|byte| matches!(byte, b'\n' | b'\r'))
}

/// At most a line's worth: it may be anything, and a key.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes));
    text.escape_debug().to_string()
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = match self.wanted {
            Wanted::Certificate => "certificate",
            Wanted::PrivateKey => "private key",
            Wanted::RevocationList => "certificate revocation list (CRL)",
        };
        match &self.fault {
            Fault::Empty => write!(f, "no {wanted}: the file is empty"),
            Fault::ByteOrderMark => write!(
                f,
                "no {wanted} that can be read: it begins with a UTF-8 byte order mark; save it \
                 without one"
            ),
            Fault::Utf16 => write!(
                f,
                "no {wanted} that can be read: it is UTF-16 text; save it as ASCII or UTF-8"
            ),
            Fault::Der => write!(
                f,
                "no {wanted} in PEM form: it is binary, probably DER; convert it, e.g. with \
                 `openssl x509 -inform der`, `openssl pkey -inform der` or `openssl crl -inform \
                 der`"
            ),
            Fault::Indented => write!(
                f,
                "no {wanted} that can be read: its lines are indented; remove the spaces before \
                 -----BEGIN and on the lines that follow"
            ),
            Fault::NoSection => write!(
                f,
                "no {wanted} in PEM form: it has no line that begins with -----BEGIN"
            ),
            Fault::Encrypted => write!(
                f,
                "no {wanted} that can be used: the key is encrypted with a passphrase; decrypt \
                 it, e.g. with `openssl pkey -in FILE -out DECRYPTED`"
            ),
            Fault::Unsupported(form) => write!(
                f,
                "no {wanted} that can be used: `{form}` is not supported; convert it to PKCS #8 \
                 (-----BEGIN PRIVATE KEY-----)"
            ),
            Fault::Others(found) => {
                let found = found.join("`, `");
                write!(f, "no {wanted}: it has `{found}`; is this the right file?")
            }
            Fault::CutOff(label) => write!(
                f,
                "no {wanted} that can be read: its line -----END {label}----- is missing, the \
                 file is cut off"
            ),
            Fault::Damaged(how) => write!(f, "no {wanted} that can be read: {how}"),
        }
    }
}

impl std::error::Error for PemError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> String {
        rcgen::KeyPair::generate().unwrap().serialize_pem()
    }

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn what_is_wrong_with_a_key_is_named() {
        let good = key();
        assert!(private_key(good.as_bytes()).is_ok());
        let crlf = good.replace('\n', "\r\n");
        assert!(private_key(crlf.as_bytes()).is_ok());
        let indented: String = good.lines().map(|line| format!("  {line}\n")).collect();
        let cut = good.lines().next().unwrap();
        for (pem, wanted) in [
            ("", "empty"),
            ("\n \n", "empty"),
            ("hello", "-----BEGIN"),
            (&format!("\u{feff}{good}"), "byte order mark"),
            (&indented, "indented"),
            (&indented.replace("  ", "\t"), "indented"),
            (&certificate(), "`CERTIFICATE`; is this the right file?"),
            (
                &good.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
                "encrypted with a passphrase",
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n\
                 -----END RSA PRIVATE KEY-----\n",
                "encrypted with a passphrase",
            ),
            (
                &good.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
                "`OPENSSH PRIVATE KEY` is not supported",
            ),
            (cut, "-----END PRIVATE KEY-----"),
            (&good.replace('M', "*"), "base64"),
        ] {
            let error = private_key(pem.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{wanted}: {error}");
            assert!(error.starts_with("no private key"), "{error}");
            assert!(!error.contains("MIG"), "a key's text is in {error}");
        }
        let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf16 = [b"\xff\xfe".to_vec(), utf16].concat();
        let error = private_key(&utf16).unwrap_err().to_string();
        assert!(error.contains("UTF-16"), "{error}");
        let der = private_key(good.as_bytes()).unwrap();
        let error = private_key(der.secret_der()).unwrap_err().to_string();
        assert!(error.contains("DER"), "{error}");
    }

    #[test]
    fn a_chain_of_which_one_cannot_be_read_is_not_cut_short() {
        let (leaf, issuer) = (certificate(), certificate());
        assert_eq!(
            certificates((leaf.clone() + &issuer).as_bytes())
                .unwrap()
                .len(),
            2
        );
        for (leaf, wanted) in [
            (format!("\u{feff}{leaf}"), "byte order mark"),
            (format!(" {leaf}"), "indented"),
            (
                leaf.replace("-----END", "-----"),
                "-----END CERTIFICATE-----",
            ),
        ] {
            // The last one runs into the next and is no base64.
            let error = certificates((leaf + &issuer).as_bytes()).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(wanted) || error.contains("base64"),
                "{error}"
            );
        }
        let error = certificates(key().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("`PRIVATE KEY`"), "{error}");
        let error = revocation_lists(leaf.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains("(CRL)") && error.contains("`CERTIFICATE`"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "(-----BEGIN |-----END |PRIVATE KEY|-----|\n|\\PC){0,20}") {
            for pem in [&bytes[..], text.as_bytes()] {
                let _ = certificates(pem);
                let _ = private_key(pem);
                let _ = revocation_lists(pem);
            }
        }
    }
}
