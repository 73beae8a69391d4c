//! Reads `gateway.yaml` and `tenants.d/*.yaml` into records that know where every value stands.
//! Everything wrong with the files' form is found in one go: a syntax error stops only its own
//! file, a wrong value only itself. What the values mean together is for [`crate::plan::prove`].

pub(crate) mod bgp;
mod decode;
mod diagnostic;
mod links;
mod mask;
mod node;
mod records;
mod scalar;
mod secret;
mod seed;
mod vpn;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use diagnostic::{Diagnostic, Note};

use crate::keys::KeyName;

pub(crate) use decode::{At, entries, hint};
use decode::{Decode, Decoder};
pub(crate) use diagnostic::{Findings, Place, Source};
pub(crate) use links::{Bond, BondHash, BondMode, LacpRate, Link, Offloads, Select};
pub(crate) use records::{
    Endpoint, Fabric, FrontEnd, GatewayFile, InboundRule, Limits, Nat, Pool, Route, TenantFile,
    Timeouts,
};
pub(crate) use scalar::{
    Dscp, HostAddress, LinkName, Name, NatAddresses, Number, PublicAddress, RouteVia, RuleProtocol,
    SubnetReference, Switch, Workers,
};
pub(crate) use secret::{KeyFile, SecretFiles, SecretKey};
pub(crate) use seed::{SeedDocuments, SeedFile, SshKey, of_seed};
pub(crate) use vpn::{Listener, Probe, Site, Translation, Tunnel, TunnelBandwidth, Vpn};

/// Tenants of one gateway, and so files of `tenants.d`.
pub const MAX_TENANTS: usize = 4096;
/// Bytes of one file.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// Bytes of all files.
pub const MAX_TOTAL_BYTES: u64 = 256 << 20;

/// The file names that are read: the gateway's, and the ending of tenants' in `tenants.d`.
pub(crate) const GATEWAY_FILE: &str = "gateway.yaml";
pub(crate) const TENANTS_DIRECTORY: &str = "tenants.d";
pub(crate) const TENANT_ENDING: &str = "yaml";
/// An ending that was surely meant to be that one.
pub(crate) const MISTAKEN_ENDING: &str = "yml";

/// A configuration as it was read, with whatever is wrong with its form.
#[derive(Clone, Debug)]
pub struct Documents {
    pub(crate) sources: Vec<Source>,
    pub(crate) gateway: Option<GatewayFile>,
    pub(crate) tenants: Vec<TenantDocument>,
    pub(crate) findings: Findings,
    /// Whether `gateway.yaml` has no error of form, so that what is missing in it is truly absent.
    pub(crate) gateway_intact: bool,
}

impl Documents {
    /// The listeners whose private keys the gateway makes itself.
    #[must_use]
    pub fn generated_keys(&self) -> Vec<KeyName> {
        let listeners = |tenant: &'_ TenantDocument| {
            let routing_domain = tenant.file.routing_domain?.value;
            let vpn = &tenant.file.vpn.as_ref()?.value;
            let generated = entries(&vpn.listen).iter().filter(|one| one.value.is_generated());
            let name = |listener: &At<Listener>| KeyName {
                routing_domain,
                listener: listener.value.name().to_owned(),
            };
            Some(generated.map(name).collect::<Vec<_>>())
        };
        self.tenants.iter().filter_map(listeners).flatten().collect()
    }
}

/// One tenant's file.
#[derive(Clone, Debug)]
pub(crate) struct TenantDocument {
    pub(crate) place: Place,
    pub(crate) file: TenantFile,
    /// Whether the file has no error of form.
    pub(crate) intact: bool,
}

/// Reads the configuration in `directory`. Never fails: what cannot be read is a diagnostic, which
/// [`crate::plan::prove`] returns together with its own.
#[must_use]
pub fn load(directory: &Path) -> Documents {
    let mut reader = Reader::default();
    let gateway = reader.read(&directory.join(GATEWAY_FILE));
    let paths = reader.tenant_paths(&directory.join(TENANTS_DIRECTORY));
    let tenants = paths.iter().filter_map(|path| reader.read(path)).collect();
    reader.into_documents(gateway, tenants)
}

/// The documents with these texts, as if they had been read from files: `gateway.yaml` first, then
/// the tenants'. Secrets that are in files of their own are read again.
pub(crate) fn of_sources(sources: Vec<Source>) -> Documents {
    let tenants = (1..).take(sources.len().saturating_sub(1)).collect();
    let gateway = (!sources.is_empty()).then_some(0);
    Reader { sources, ..Reader::default() }.into_documents(gateway, tenants)
}

/// The documents with these texts, as if they had been read from files of these names.
#[cfg(test)]
pub(crate) fn documents_of(gateway: &str, tenants: &[(&str, &str)]) -> Documents {
    let files = [(GATEWAY_FILE, gateway)].into_iter().chain(tenants.iter().copied());
    let source = |(name, text): (&str, &str)| Source { name: name.into(), text: text.into() };
    of_sources(files.map(source).collect())
}

/// The JSON Schemas (draft 2020-12) of the file kinds, for editors:
/// `{"gateway": ..., "tenant": ..., "seed": ...}`.
#[must_use]
pub fn json_schema() -> Value {
    let titled = |mut schema: Value, title: &str| {
        if let Some(object) = schema.as_object_mut() {
            object.insert(
                "$schema".to_owned(),
                json!("https://json-schema.org/draft/2020-12/schema"),
            );
            object.insert("title".to_owned(), json!(title));
        }
        schema
    };
    json!({
        "gateway": titled(GatewayFile::schema(), "nvgate gateway.yaml"),
        "tenant": titled(TenantFile::schema(), "nvgate tenants.d/*.yaml"),
        "seed": titled(SeedFile::schema(), "nvgate seed.yaml"),
    })
}

#[derive(Default)]
struct Reader {
    sources: Vec<Source>,
    findings: Findings,
    bytes: u64,
    secret_files: SecretFiles,
}

impl Reader {
    /// Reads one file into the sources and returns its index; a failure is a finding.
    fn read(&mut self, path: &Path) -> Option<u32> {
        self.take(path.display().to_string(), bytes_of(path))
    }

    /// Takes what a file called `name` holds into the sources and returns its index.
    fn take(&mut self, name: String, bytes: Result<Vec<u8>, String>) -> Option<u32> {
        let index = u32::try_from(self.sources.len()).ok()?;
        let (text, failure) = match bytes.and_then(|bytes| self.text_of(bytes)) {
            Ok(text) => (text, None),
            Err(failure) => (String::new(), Some(failure)),
        };
        self.bytes += text.len() as u64;
        self.sources.push(Source { name, text });
        match failure {
            None => Some(index),
            Some(failure) => {
                self.findings.error(Place::start_of(index), failure);
                None
            }
        }
    }

    fn text_of(&self, bytes: Vec<u8>) -> Result<String, String> {
        if self.bytes + bytes.len() as u64 > MAX_TOTAL_BYTES {
            return Err(format!("all files together are larger than {MAX_TOTAL_BYTES} bytes"));
        }
        String::from_utf8(bytes).map_err(|error| {
            format!("is not UTF-8 text: byte {} is wrong", error.utf8_error().valid_up_to())
        })
    }

    /// Decodes the sources with these indices.
    fn into_documents(mut self, gateway: Option<u32>, tenants: Vec<u32>) -> Documents {
        let before = self.findings.count();
        let gateway = gateway.and_then(|index| self.decode::<GatewayFile>(index, GATEWAY_FILE));
        let gateway_intact = gateway.is_some() && self.findings.count() == before;
        let mut documents = Vec::new();
        for index in tenants {
            let before = self.findings.count();
            if let Some(file) = self.decode::<TenantFile>(index, "the file") {
                let intact = self.findings.count() == before;
                documents.push(TenantDocument { place: Place::start_of(index), file, intact });
            }
        }
        let Self { sources, findings, .. } = self;
        Documents { sources, gateway, tenants: documents, findings, gateway_intact }
    }

    fn decode<T: Decode>(&mut self, index: u32, name: &'static str) -> Option<T> {
        let text = self.sources.get(index as usize).map(|source| source.text.as_str())?;
        let node = node::parse(index, text, &mut self.findings)?;
        T::decode(&node, &mut Decoder::new(&mut self.findings, &self.secret_files, name))
    }

    /// The tenants' files, ordered by name. Other files and hidden ones are none; a directory that
    /// does not exist holds none.
    fn tenant_paths(&mut self, directory: &Path) -> Vec<PathBuf> {
        let paths = match tenant_paths(directory) {
            Ok((paths, misnamed)) => {
                for path in misnamed {
                    let message = format!("tenants' files end in .{TENANT_ENDING}; rename it");
                    self.refuse_path(&path, message);
                }
                paths
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.refuse_path(directory, format!("cannot be read: {error}"));
                Vec::new()
            }
        };
        if paths.len() > MAX_TENANTS {
            let message = format!("{} files are more than {MAX_TENANTS} tenants", paths.len());
            self.refuse_path(directory, message);
        }
        paths.into_iter().take(MAX_TENANTS).collect()
    }

    fn refuse_path(&mut self, path: &Path, message: String) {
        let index = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        self.sources.push(Source { name: path.display().to_string(), text: String::new() });
        self.findings.error(Place::start_of(index), message);
    }
}

/// What a file of a configuration holds.
pub(crate) fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // Opening a FIFO would wait for its writer, so its kind comes first.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    Ok(bytes)
}

/// The tenants' files, ordered by name, and those that were surely meant to be some.
fn tenant_paths(directory: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut paths, mut misnamed) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        match path.extension().and_then(OsStr::to_str) {
            Some(TENANT_ENDING) if !hidden => paths.push(path),
            Some(MISTAKEN_ENDING) if !hidden => misnamed.push(path),
            Some(_) | None => {}
        }
    }
    paths.sort();
    misnamed.sort();
    Ok((paths, misnamed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(documents: &Documents) -> Vec<String> {
        let diagnostics = documents.findings.clone().into_diagnostics(&documents.sources);
        diagnostics.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn files_that_cannot_be_read_are_named_and_the_others_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let tenants = directory.path().join(TENANTS_DIRECTORY);
        fs::create_dir(&tenants).unwrap();
        fs::create_dir(tenants.join("a.yaml")).unwrap();
        fs::write(tenants.join("b.yaml"), [0xff, 0xfe]).unwrap();
        fs::write(tenants.join("c.yml"), "").unwrap();
        fs::write(tenants.join(".hidden.yaml"), "").unwrap();
        fs::write(tenants.join("README"), "").unwrap();
        let large = fs::File::create(tenants.join("d.yaml")).unwrap();
        large.set_len(MAX_FILE_BYTES + 1).unwrap();
        fs::write(tenants.join("e.yaml"), "tenant: E\n").unwrap();
        let messages = messages(&load(directory.path()));
        let expected = [
            "gateway.yaml:1:1: error: cannot be read: No such file or directory",
            "c.yml:1:1: error: tenants' files end in .yaml; rename it",
            "a.yaml:1:1: error: is not a regular file",
            "b.yaml:1:1: error: is not UTF-8 text: byte 0 is wrong",
            "d.yaml:1:1: error: is larger than 16777216 bytes",
            "e.yaml:1:1: error: missing key `routing_domain` in a tenant's file",
            "e.yaml:1:1: error: missing key `subnets` in a tenant's file",
            "e.yaml:1:9: error: `tenant`: `E` is not a tenant name",
        ];
        assert_eq!(messages.len(), expected.len(), "{messages:#?}");
        for (message, expected) in messages.iter().zip(expected) {
            assert!(message.contains(expected), "{message}\n does not contain\n{expected}");
        }
    }

    #[test]
    fn a_directory_without_tenants_has_none() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(GATEWAY_FILE), "{}").unwrap();
        let documents = load(directory.path());
        assert_eq!(documents.tenants.len(), 0);
        assert_eq!(messages(&documents).len(), 2);
    }
}
