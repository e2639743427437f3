use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

use super::*;

/// A directory with a CA (`ca.pem`) and one identity (`edge.crt`, `edge.key`), all good.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        let (ca, _) = signed("ca", |_| {});
        files.write("ca.pem", ca.as_bytes());
        let (certificate, key) = signed("edge-01", |_| {});
        files.write("edge.crt", certificate.as_bytes());
        files.write("edge.key", key.as_bytes());
        files
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).unwrap();
        self.mode(name, 0o600);
    }

    fn mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        let identity = IdentityFiles { certificate: self.path("edge.crt"), key: self.path("edge.key") };
        load(
            &TlsFiles { roots: Roots::File(self.path("ca.pem")), identity: Some(identity) },
            VerificationTime::new(None),
        )
    }

    /// The error, which must name the file.
    fn refusal(&self, file: &str) -> TlsError {
        let error = self.load().unwrap_err();
        assert!(error.to_string().contains(&self.path(file).display().to_string()), "{error}");
        error
    }
}

/// Certificate and PKCS#8 key, PEM.
fn signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (signed_with(name, &key, change), key.serialize_pem())
}

fn signed_with(name: &str, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    params.self_signed(key).unwrap().pem()
}

fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            match i <= three.len() {
                true => text.push(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn good_files_load_and_name_the_host() {
    let files = Files::new();
    let loaded = files.load().unwrap();
    assert_eq!(loaded.warnings, []);
    let identity = loaded.identity.unwrap();
    assert_eq!(identity.common_name.as_deref(), Some("edge-01"));
    assert!(identity.not_before < identity.not_after);
    assert_eq!(inspect_file(&files.path("edge.crt")).unwrap(), identity);
}

#[test]
fn each_fault_of_a_file_has_its_error_with_the_path() {
    let files = Files::new();
    for (file, what) in [("ca.pem", "CA file"), ("edge.crt", "certificate"), ("edge.key", "key file")] {
        let good = std::fs::read(files.path(file)).unwrap();
        std::fs::remove_file(files.path(file)).unwrap();
        assert!(matches!(files.refusal(file), TlsError::Unreadable { what: w, .. } if w == what));
        std::fs::create_dir(files.path(file)).unwrap();
        assert!(matches!(files.refusal(file), TlsError::Unreadable { why, .. } if why.contains("regular file")));
        std::fs::remove_dir(files.path(file)).unwrap();
        files.write(file, b" \n");
        assert!(matches!(files.refusal(file), TlsError::Empty { what: w, .. } if w == what));
        files.write(file, b"\x30\x82\x01\x00 this is DER, or nothing");
        assert!(matches!(files.refusal(file), TlsError::NotPem { what: w, .. } if w == what));
        files.write(file, &good[..good.len() / 2]);
        assert!(matches!(files.refusal(file), TlsError::NotPem { what: w, .. } if w == what));
        files.write(file, &vec![b'x'; MAX_FILE as usize + 1]);
        assert!(matches!(files.refusal(file), TlsError::Unreadable { why, .. } if why.contains("larger")));
        files.write(file, &good);
    }
    files.load().unwrap();
}

#[test]
fn pem_of_the_wrong_kind_or_with_a_broken_inside_is_refused() {
    let files = Files::new();
    let (certificate, key) =
        (std::fs::read(files.path("edge.crt")).unwrap(), std::fs::read(files.path("edge.key")).unwrap());
    files.write("edge.crt", &key);
    assert!(matches!(files.refusal("edge.crt"), TlsError::NotPem { block: "BEGIN CERTIFICATE", .. }));
    files.write("edge.crt", pem("CERTIFICATE", b"not a certificate").as_bytes());
    assert!(matches!(files.refusal("edge.crt"), TlsError::BadCertificate { .. }));
    files.write("edge.crt", &certificate);
    files.write("edge.key", &certificate);
    assert!(matches!(files.refusal("edge.key"), TlsError::NotPem { block: "BEGIN PRIVATE KEY", .. }));
    files.write("edge.key", pem("PRIVATE KEY", b"not a key").as_bytes());
    assert!(matches!(files.refusal("edge.key"), TlsError::BadKey { .. }));
    files.write("edge.key", pem("ENCRYPTED PRIVATE KEY", b"secret").as_bytes());
    assert!(matches!(files.refusal("edge.key"), TlsError::EncryptedKey { .. }));
    files.write("edge.key", &key);
    files.write("ca.pem", pem("CERTIFICATE", b"not a certificate").as_bytes());
    assert!(matches!(files.refusal("ca.pem"), TlsError::NoRoots { .. }));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let files = Files::new();
    files.write("edge.key", signed("edge-02", |_| {}).1.as_bytes());
    assert!(matches!(files.refusal("edge.key"), TlsError::Mismatch { .. }));
}

#[test]
fn an_expired_certificate_is_an_error_and_one_not_yet_valid_a_warning() {
    let files = Files::new();
    let put = |change: fn(&mut CertificateParams)| {
        let (certificate, key) = signed("edge-01", change);
        files.write("edge.crt", certificate.as_bytes());
        files.write("edge.key", key.as_bytes());
    };
    put(|p| (p.not_before, p.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 6, 1)));
    let error = files.refusal("edge.crt");
    assert!(matches!(error, TlsError::Expired { .. }));
    assert!(error.to_string().contains("2021-06-01 00:00:00Z"), "{error}");
    put(|p| (p.not_before, p.not_after) = (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1)));
    let warnings = files.load().unwrap().warnings;
    assert!(
        matches!(&warnings[..], [TlsWarning::NotYetValid { not_before, .. }] if not_before.starts_with("3000-01-01"))
    );
}

#[test]
fn a_key_that_others_may_read_is_a_warning() {
    let files = Files::new();
    for (mode, warned) in
        [(0o400, false), (0o600, false), (0o640, false), (0o440, false), (0o644, true), (0o660, true), (0o604, true)]
    {
        files.mode("edge.key", mode);
        let warnings = files.load().unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(warned), "mode {mode:o}: {warnings:?}");
        for warning in warnings {
            assert!(warning.to_string().contains(&format!("mode 0{mode:o}")), "{warning}");
        }
    }
}

#[test]
fn keys_in_pkcs8_sec1_and_pkcs1_are_read() {
    let files = Files::new();
    files.load().unwrap();

    // The PKCS#8 form of a P-256 key ends in its SEC1 form, wrapped in an OCTET STRING of 109 bytes.
    let key = KeyPair::generate().unwrap();
    let pkcs8 = key.serialize_der();
    let at = pkcs8.windows(4).position(|w| w == [0x04, 0x6d, 0x30, 0x6b]).unwrap();
    files.write("edge.crt", signed_with("edge-01", &key, |_| {}).as_bytes());
    files.write("edge.key", pem("EC PRIVATE KEY", &pkcs8[at + 2..]).as_bytes());
    files.load().unwrap();

    // And around a PKCS#1 key it is this.
    let pkcs1_pem = include_bytes!("testdata/rsa-pkcs1-for-tests-only.pem");
    let pkcs1 = rustls_pki_types::PrivatePkcs1KeyDer::from_pem_slice(pkcs1_pem).unwrap();
    let inner = pkcs1.secret_pkcs1_der();
    let mut body = b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04\x82".to_vec();
    body.extend((inner.len() as u16).to_be_bytes());
    body.extend(inner);
    let wrapped = [b"\x30\x82".as_slice(), &(body.len() as u16).to_be_bytes(), &body].concat();
    let key = KeyPair::from_pem(&pem("PRIVATE KEY", &wrapped)).unwrap();
    files.write("edge.crt", signed_with("edge-01", &key, |_| {}).as_bytes());
    files.write("edge.key", pkcs1_pem);
    files.load().unwrap();
}

#[test]
fn without_a_common_name_there_is_no_host_id() {
    let files = Files::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    files.write("edge.crt", params.self_signed(&key).unwrap().pem().as_bytes());
    files.write("edge.key", key.serialize_pem().as_bytes());
    assert_eq!(files.load().unwrap().identity.unwrap().common_name, None);
}

#[test]
fn a_chain_may_hold_more_than_the_leaf_and_the_leaf_comes_first() {
    let files = Files::new();
    let chain = [std::fs::read(files.path("edge.crt")).unwrap(), std::fs::read(files.path("ca.pem")).unwrap()].concat();
    files.write("edge.crt", &chain);
    assert_eq!(files.load().unwrap().identity.unwrap().common_name.as_deref(), Some("edge-01"));
}
