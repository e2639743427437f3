//! A throw-away certificate authority and what it signs: the broker for loopback, the hub, one pair per host.
//!
//! Keys are written with mode 0600 into the demo's own directory and go with it.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::uplink::transport::tls::{IdentityFiles, Roots, TlsFiles};

#[derive(Debug)]
pub(super) struct Authority {
    dir: PathBuf,
    pub ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(dir: PathBuf) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "holdover demo CA");
        let key = KeyPair::generate()?;
        let ca = dir.join("ca.pem");
        write(&ca, params.self_signed(&key)?.pem().as_bytes(), 0o644)?;
        Ok(Self { dir, ca, issuer: Issuer::new(params, key) })
    }

    /// For the broker, on this host only.
    pub fn server(&self) -> anyhow::Result<IdentityFiles> {
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        self.issue("broker", params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client that the broker knows by `name`.
    pub fn client(&self, name: &str) -> anyhow::Result<IdentityFiles> {
        self.issue(name, CertificateParams::new(Vec::new())?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    pub fn tls_files(&self, identity: IdentityFiles) -> TlsFiles {
        TlsFiles { roots: Roots::File(self.ca.clone()), identity: Some(identity) }
    }

    fn issue(
        &self,
        name: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> anyhow::Result<IdentityFiles> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let files = IdentityFiles {
            certificate: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        write(&files.certificate, params.signed_by(&key, &self.issuer)?.pem().as_bytes(), 0o644)?;
        write(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
        Ok(files)
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written: io::Result<()> = file.and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}
