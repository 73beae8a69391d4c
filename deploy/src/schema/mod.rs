//! Reads `gateway.yaml` and `tenants.d/*.yaml` into records that know where every value stands.
//! Everything wrong with the files' form is found in one go: a syntax error stops only its own
//! file, a wrong value only itself. What the values mean together is for [`crate::plan::prove`].

mod decode;
mod diagnostic;
mod node;
mod records;
mod scalar;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use diagnostic::{Diagnostic, Note};

pub(crate) use decode::{At, entries, suggestion};
use decode::{Decode, Decoder};
pub(crate) use diagnostic::{Findings, Place, Source};
pub(crate) use records::{
    Endpoint, Fabric, FrontEnd, GatewayFile, InboundRule, Limits, Nat, Pool, Route, TenantFile,
    Timeouts,
};
pub(crate) use scalar::{
    Dscp, NatAddresses, PublicAddress, RuleProtocol, SubnetReference, Switch, Workers,
};

/// Tenants of one gateway, and so files of `tenants.d`.
pub const MAX_TENANTS: usize = 4096;
/// Bytes of one file.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// Bytes of all files.
pub const MAX_TOTAL_BYTES: u64 = 256 << 20;

/// The file names that are read: the gateway's, and the ending of tenants' in `tenants.d`.
const GATEWAY_FILE: &str = "gateway.yaml";
const TENANTS_DIRECTORY: &str = "tenants.d";
const TENANT_ENDING: &str = "yaml";

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
    let gateway_path = directory.join(GATEWAY_FILE);
    let gateway_text = reader.read(&gateway_path);
    let gateway = match gateway_text {
        Some(file) => reader.decode::<GatewayFile>(file, "gateway.yaml"),
        None => None,
    };
    let gateway_intact = reader.findings.is_empty();
    let mut tenants = Vec::new();
    for path in reader.tenant_paths(&directory.join(TENANTS_DIRECTORY)) {
        let before = reader.findings.count();
        let Some(index) = reader.read(&path) else { continue };
        if let Some(file) = reader.decode::<TenantFile>(index, "tenant file") {
            let intact = reader.findings.count() == before;
            tenants.push(TenantDocument { place: Place::start_of(index), file, intact });
        }
    }
    let Reader { sources, findings, .. } = reader;
    Documents { sources, gateway, tenants, findings, gateway_intact }
}

/// The JSON Schemas (draft 2020-12) of both file kinds, for editors:
/// `{"gateway": ..., "tenant": ...}`.
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
    })
}

#[derive(Default)]
struct Reader {
    sources: Vec<Source>,
    findings: Findings,
    bytes: u64,
}

impl Reader {
    /// Reads one file into the sources and returns its index; a failure is a finding.
    fn read(&mut self, path: &Path) -> Option<u32> {
        let index = u32::try_from(self.sources.len()).ok()?;
        let (text, failure) = match self.text_of(path) {
            Ok(text) => (text, None),
            Err(failure) => (String::new(), Some(failure)),
        };
        self.bytes += text.len() as u64;
        self.sources.push(Source { name: path.display().to_string(), text });
        match failure {
            None => Some(index),
            Some(failure) => {
                self.findings.error(Place::start_of(index), failure);
                None
            }
        }
    }

    fn text_of(&self, path: &Path) -> Result<String, String> {
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
        if self.bytes + bytes.len() as u64 > MAX_TOTAL_BYTES {
            return Err(format!("all files together are larger than {MAX_TOTAL_BYTES} bytes"));
        }
        String::from_utf8(bytes).map_err(|error| {
            format!("is not UTF-8 text: byte {} is wrong", error.utf8_error().valid_up_to())
        })
    }

    fn decode<T: Decode>(&mut self, index: u32, name: &'static str) -> Option<T> {
        let text = self.sources.get(index as usize).map(|source| source.text.as_str())?;
        let node = node::parse(index, text, &mut self.findings)?;
        T::decode(&node, &mut Decoder::new(&mut self.findings, name))
    }

    /// The tenants' files, ordered by name. Other files and hidden ones are none; a directory that
    /// does not exist holds none.
    fn tenant_paths(&mut self, directory: &Path) -> Vec<PathBuf> {
        let paths = match tenant_paths(directory) {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.refuse_directory(directory, format!("cannot be read: {error}"));
                Vec::new()
            }
        };
        if paths.len() > MAX_TENANTS {
            let message = format!("{} files are more than {MAX_TENANTS} tenants", paths.len());
            self.refuse_directory(directory, message);
        }
        paths.into_iter().take(MAX_TENANTS).collect()
    }

    fn refuse_directory(&mut self, directory: &Path, message: String) {
        let index = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        self.sources.push(Source { name: directory.display().to_string(), text: String::new() });
        self.findings.error(Place::start_of(index), message);
    }
}

fn tenant_paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|ending| ending == TENANT_ENDING) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
