//! Evidence that can be handed over: an audit, its rows and the very frames that its findings cite, with a digest of each; and
//! whether such a bundle holds what it says.

use crate::audit::{Audit, Code, EvidenceFrame, Finding, NOT_KEPT, SCHEMA, Tool};
use crate::capture::write::PcapngWriter;
use crate::capture::{CaptureEnd, CaptureReader, Digest, Frame, Input, InputSource, LinkType};
use crate::model::hex;
use crate::store;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

/// Version of the shape of a [`Manifest`].
pub const MANIFEST_SCHEMA: u32 = 1;

/// The file that says what a bundle holds.
pub const MANIFEST: &str = "MANIFEST.json";

/// The digests of all other files, as `sha256sum -c` reads them: whoever signs this file signs the bundle.
pub const SUMS: &str = "SHA256SUMS";

/// Bytes of a frame that every reader believes, and those that are believed where an interface announces them.
const USUAL_BYTES: u32 = 262_144;
const MOST_BYTES: u32 = 1 << 26;

/// Where the frames of captures stand in a bundle.
const FRAMES: &str = "frames";

/// What of an audit's directory belongs to it.
const OF_AN_AUDIT: [&str; 6] =
    ["audit.json", "report.html", "flows.parquet", "flows.jsonl", "names.parquet", "names.jsonl"];

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its path within the bundle.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// What a bundle holds of one capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sliced {
    /// Its name as the audit has it.
    pub path: String,
    /// SHA-256 of the file that was audited, if that was computed.
    pub sha256: Option<String>,
    /// Its frames that findings cite, counted from 1, in their order.
    pub frames: Vec<u64>,
    /// The file of the bundle that has them; none where they could not be had.
    pub slice: Option<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this shape.
    pub schema: u32,
    /// The program that made the bundle.
    pub tool: Tool,
    /// All files but this one and the sums.
    pub files: Vec<Listed>,
    /// The captures that findings cite.
    pub captures: Vec<Sliced>,
}

/// One thing that was looked at in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What, and what came of it.
    pub what: String,
    /// Whether it is as it should be; none where that could not be told.
    pub holds: Option<bool>,
}

/// Frames that findings cite, by capture.
fn cited<'f>(findings: impl Iterator<Item = &'f Finding>) -> BTreeMap<String, BTreeSet<u64>> {
    let mut cited: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for EvidenceFrame { capture, frame } in findings.flat_map(|finding| &finding.evidence) {
        cited.entry(capture.to_string()).or_default().insert(*frame);
    }
    cited
}

/// Writes frames of captures, each with where it stood as its comment.
struct SliceWriter<W: Write> {
    writer: PcapngWriter<W>,
    /// By capture, interface, link type, and whether it is for frames longer than usual.
    interfaces: BTreeMap<(String, u32, LinkType, bool), u32>,
}

impl<W: Write> SliceWriter<W> {
    fn new(writer: W) -> io::Result<Self> {
        let tool = Tool::this();
        let writer = PcapngWriter::new(writer, &format!("{} {}", tool.name, tool.version))?;
        Ok(SliceWriter { writer, interfaces: BTreeMap::new() })
    }

    fn frame(&mut self, capture: &str, frame: &Frame<'_>) -> io::Result<()> {
        let new = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let long = frame.bytes.len() > USUAL_BYTES as usize;
        let key = (capture.to_owned(), frame.interface, frame.link_type, long);
        let interface = *self.interfaces.entry(key).or_insert(new);
        if interface == new {
            let name = format!("{} interface {}", capture.escape_debug(), frame.interface);
            let most = if long { MOST_BYTES } else { USUAL_BYTES };
            self.writer.interface(&name, frame.link_type, most)?;
        }
        let comment = format!("frame {} of {}", frame.number, capture.escape_debug());
        self.writer.commented_frame(&Frame { interface, ..*frame }, &comment)
    }
}

/// Refuses what is no plain file: a pipe would be waited for.
fn plain(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err("it is no plain file".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Why a capture by this name gives no frames, if none by such a name does.
fn kept_nowhere(capture: &str) -> Option<&'static str> {
    match capture {
        "-" => Some("it came from standard input"),
        live if live.starts_with(NOT_KEPT) => Some("a live run kept none of its frames (--save keeps them)"),
        _ => None,
    }
}

/// The SHA-256 of a capture when it was audited, if that was computed.
fn audited_digest<'a>(audit: &'a Audit, capture: &str) -> Option<&'a String> {
    audit.inputs.iter().find(|input| *input.path == *capture)?.sha256.as_ref()
}

/// Hands over wanted frames of a capture in their order, and tells the file's SHA-256 and how many of them there are.
///
/// # Errors
/// What is wrong with the capture, in words.
fn each_wanted(
    capture: &str,
    wanted: &BTreeSet<u64>,
    take: &mut dyn FnMut(&Frame<'_>) -> io::Result<()>,
) -> Result<(Option<String>, usize), String> {
    if let Some(why) = kept_nowhere(capture) {
        return Err(why.to_owned());
    }
    plain(Path::new(capture))?;
    let input = Input::file(capture);
    let mut reader =
        CaptureReader::open(&input, Digest::Sha256).map_err(|error| error.problem.to_string())?;
    let mut found = 0;
    while let Some(frame) = reader.next() {
        if wanted.contains(&frame.number) {
            take(&frame).map_err(|error| error.to_string())?;
            found += 1;
        }
    }
    let stored = reader.finish().map_err(|error| error.to_string())?;
    Ok((stored.sha256.map(|digest| hex(&digest)), found))
}

/// Whether a capture is the one that was audited, where its digest is known, and has all that was wanted of it.
fn is_the_one(
    (sha256, found): (Option<String>, usize),
    known: Option<&str>,
    wanted: usize,
) -> Result<(), String> {
    if let (Some(known), Some(came)) = (known, &sha256)
        && known != came
    {
        return Err(format!(
            "it is not the file that was audited (SHA-256 {came:.12}... instead of {known:.12}...)"
        ));
    }
    if found < wanted {
        return Err(format!("it has only {found} of the {wanted} frames that findings cite"));
    }
    Ok(())
}

/// Writes cited frames of one capture into a file, which is there only if all went well.
fn write_slice(capture: &str, wanted: &BTreeSet<u64>, known: Option<&str>, to: &Path) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", to.display());
    let write = || -> Result<(), String> {
        let mut writer =
            SliceWriter::new(BufWriter::new(File::create_new(to).map_err(told)?)).map_err(told)?;
        let came = each_wanted(capture, wanted, &mut |frame| writer.frame(capture, frame))?;
        is_the_one(came, known, wanted.len())?;
        writer.writer.into_inner().flush().map_err(told)
    };
    write().inspect_err(|_| {
        // What is wrong is told already.
        let _ = fs::remove_file(to);
    })
}

/// Makes a bundle of what `audit --out` wrote into `from`: a directory that is not there yet. Captures are looked for where the
/// audit names them; what cannot be had of them is told in the manifest.
///
/// # Errors
/// The audit cannot be read, or the bundle not be written.
pub fn pack(from: &Path, audit: &Audit, bundle: &Path) -> io::Result<Manifest> {
    fs::create_dir(bundle).map_err(|error| named(bundle, error))?;
    packed(from, audit, bundle).inspect_err(|_| {
        // Half a bundle is none. What is wrong is told already.
        let _ = fs::remove_dir_all(bundle);
    })
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Fills a bundle.
fn packed(from: &Path, audit: &Audit, bundle: &Path) -> io::Result<Manifest> {
    let frames = bundle.join(FRAMES);
    fs::create_dir(&frames).map_err(|error| named(&frames, error))?;
    let mut files = Vec::new();
    for name in OF_AN_AUDIT {
        let (source, copy) = (from.join(name), bundle.join(name));
        if source.is_file() {
            let mut copy = File::create_new(&copy).map_err(|error| named(&copy, error))?;
            files.push(copied(&source, &mut copy, name)?);
        }
    }
    let mut captures = Vec::new();
    for (number, (path, wanted)) in cited(audit.findings.iter()).into_iter().enumerate() {
        let sha256 = audited_digest(audit, &path).cloned();
        let slice = format!("{FRAMES}/{:03}.pcapng", number + 1);
        let missing = write_slice(&path, &wanted, sha256.as_deref(), &bundle.join(&slice)).err();
        let frames = wanted.into_iter().collect();
        if missing.is_none() {
            files.push(listed(bundle, &slice)?);
        }
        let slice = missing.is_none().then_some(slice);
        captures.push(Sliced { path, sha256, frames, slice, missing });
    }
    // Where there is a slice, it stays.
    let _ = fs::remove_dir(&frames);
    let manifest = Manifest { schema: MANIFEST_SCHEMA, tool: Tool::this(), files, captures };
    let path = bundle.join(MANIFEST);
    fs::write(&path, serde_json::to_string_pretty(&manifest)? + "\n").map_err(|error| named(&path, error))?;
    let path = bundle.join(SUMS);
    fs::write(&path, sums(bundle, &manifest)?).map_err(|error| named(&path, error))?;
    Ok(manifest)
}

/// The lines of [`SUMS`].
fn sums(bundle: &Path, manifest: &Manifest) -> io::Result<String> {
    let own = listed(bundle, MANIFEST)?;
    let lines = manifest.files.iter().chain([&own]).map(|file| format!("{}  {}\n", file.sha256, file.path));
    Ok(lines.collect())
}

/// A file of a bundle as it is.
fn listed(bundle: &Path, name: &str) -> io::Result<Listed> {
    copied(&bundle.join(name), &mut io::sink(), name)
}

/// Writes what a file holds, and tells its length and digest under a name.
fn copied(from: &Path, to: &mut dyn Write, name: &str) -> io::Result<Listed> {
    let mut file = File::open(from).map_err(|error| named(from, error))?;
    let (mut hash, mut bytes, mut block) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let got = file.read(&mut block).map_err(|error| named(from, error))?;
        let Some(got) = block.get(..got).filter(|got| !got.is_empty()) else { break };
        hash.update(got);
        bytes += got.len() as u64;
        to.write_all(got)?;
    }
    Ok(Listed { path: name.to_owned(), bytes, sha256: hex(&hash.finalize()) })
}

/// Writes the frames that findings of an audit cite, those of one code if one is given, of all captures into one stream. Tells
/// how many there are, and which captures they cannot be had of.
///
/// # Errors
/// The stream cannot be written.
pub fn slice(audit: &Audit, code: Option<Code>, out: &mut dyn Write) -> io::Result<(u64, Vec<String>)> {
    let chosen = audit.findings.iter().filter(|finding| code.is_none_or(|code| finding.code == code));
    let mut writer = SliceWriter::new(out)?;
    let (mut count, mut problems) = (0, Vec::new());
    for (path, wanted) in cited(chosen) {
        let known = audited_digest(audit, &path).map(String::as_str);
        // What is not the audited file gives no frames: that is known at its end.
        let sound = each_wanted(&path, &wanted, &mut |_| Ok(()));
        let sound = sound.and_then(|came| is_the_one(came, known, wanted.len()));
        if let Err(problem) = sound {
            problems.push(format!("{path}: {problem}"));
            continue;
        }
        let mut failed = None;
        let written = each_wanted(&path, &wanted, &mut |frame| {
            count += 1;
            writer.frame(&path, frame).inspect_err(|error| failed = Some(error.kind()))
        });
        if let Some(kind) = failed {
            return Err(kind.into());
        }
        if let Err(problem) = written {
            problems.push(format!("{path}: {problem}"));
        }
    }
    writer.writer.get_mut().flush()?;
    Ok((count, problems))
}

/// Whether a path of a bundle stays within it.
fn stays_within(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Files below a directory, by their paths within it; what is neither file nor directory (links, devices) as well.
fn files_below(root: &Path, below: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let before = found.len();
        if entry.file_type()?.is_dir() {
            files_below(root, &path, found)?;
        }
        // Of a directory, what is in it; one with nothing in it counts itself.
        if found.len() == before {
            found.insert(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Whether a bundle holds what it says: nothing changed, nothing missing, nothing more; each frame that a finding cites is
/// there. The captures that were audited need not be at hand; those that are given are found by their digests, and frames are
/// compared byte by byte.
///
/// # Errors
/// The manifest cannot be read: then there is no bundle.
pub fn verify(bundle: &Path, captures: &[Input]) -> Result<Vec<Checked>, String> {
    let path = bundle.join(MANIFEST);
    for name in [MANIFEST, SUMS, "audit.json"] {
        let path = bundle.join(name);
        // A pipe would be waited for, and a link leads elsewhere.
        if path.symlink_metadata().is_ok_and(|meta| !meta.is_file()) {
            return Err(format!("{}: is no plain file", path.display()));
        }
    }
    let manifest: Manifest = store::read_json(&path.to_string_lossy()).map_err(|error| error.to_string())?;
    if manifest.schema != MANIFEST_SCHEMA {
        return Err(format!(
            "{}: schema {}, and this version reads {MANIFEST_SCHEMA}",
            path.display(),
            manifest.schema
        ));
    }
    let mut checked = Vec::new();
    let mut check = |holds: Option<bool>, what: String| checked.push(Checked { what, holds });
    for file in &manifest.files {
        let regular = || bundle.join(&file.path).symlink_metadata().is_ok_and(|meta| meta.is_file());
        if !stays_within(&file.path) {
            check(Some(false), format!("{}: leads out of the bundle", file.path));
        } else if !regular() {
            check(Some(false), format!("{}: is listed and not there, or no plain file", file.path));
        } else {
            match listed(bundle, &file.path) {
                Ok(came) if came == *file => check(Some(true), format!("{}: unchanged", file.path)),
                Ok(_) => check(Some(false), format!("{}: is not what is listed", file.path)),
                Err(error) => check(Some(false), error.to_string()),
            }
        }
    }
    let mut there = BTreeSet::new();
    if let Err(error) = files_below(bundle, Path::new(""), &mut there) {
        check(None, format!("{}: cannot be listed: {error}", bundle.display()));
    }
    let signs = |path: &str| {
        let signs = [".sig", ".asc", ".minisig"].iter().any(|end| path == format!("{SUMS}{end}"));
        signs && bundle.join(path).symlink_metadata().is_ok_and(|meta| meta.is_file())
    };
    let listed_paths: BTreeSet<&str> = manifest.files.iter().map(|file| &*file.path).collect();
    for path in there {
        let known = path == MANIFEST || path == SUMS || listed_paths.contains(&*path);
        if !known && !signs(&path) {
            check(Some(false), format!("{path}: is there and not listed"));
        }
    }
    match (fs::read_to_string(bundle.join(SUMS)), sums(bundle, &manifest)) {
        (Ok(came), Ok(sums)) if came == sums => check(Some(true), format!("{SUMS}: is of these files")),
        (Ok(_), Ok(_)) => check(Some(false), format!("{SUMS}: is of other files")),
        (Err(error), _) | (_, Err(error)) => check(Some(false), format!("{SUMS}: {error}")),
    }
    cites_what_is_there(bundle, &manifest, &mut check);
    let mut originals = BTreeMap::new();
    for input in captures {
        let digest = match &input.source {
            InputSource::File(path) => plain(path).and_then(|()| digest_of(input)),
            InputSource::Stdin => Err("standard input is compared with nothing: name a file".to_owned()),
        };
        match digest {
            Ok(digest) if manifest.captures.iter().any(|of| of.sha256.as_ref() == Some(&digest)) => {
                originals.insert(digest, input);
            }
            Ok(_) => check(Some(false), format!("{}: is none of the captures of this bundle", input.name)),
            Err(problem) => check(None, format!("{}: {problem}", input.name)),
        }
    }
    for of in &manifest.captures {
        let Some(slice) = &of.slice else {
            let why = of.missing.as_deref().unwrap_or("no reason is told");
            check(None, format!("{}: its frames are not in the bundle: {why}", of.path));
            continue;
        };
        if !listed_paths.contains(&**slice) || !stays_within(slice) {
            check(Some(false), format!("{slice}: has frames of {} and is not listed", of.path));
            continue;
        }
        let original = of.sha256.as_ref().and_then(|digest| originals.get(digest));
        let (holds, what) = compared(&bundle.join(slice), of, original.copied());
        // Who gives captures wants all compared.
        let holds = holds.filter(|&holds| !holds || original.is_some() || captures.is_empty());
        check(holds, format!("{slice}: {what}"));
    }
    Ok(checked)
}

/// The SHA-256 of a file as stored.
fn digest_of(input: &Input) -> Result<String, String> {
    let reader = CaptureReader::open(input, Digest::Sha256).map_err(|error| error.problem.to_string())?;
    let stored = reader.finish().map_err(|error| error.to_string())?;
    stored.sha256.map(|digest| hex(&digest)).ok_or_else(|| "it has no digest".to_owned())
}

/// Whether the manifest has each frame that the audit cites.
fn cites_what_is_there(bundle: &Path, manifest: &Manifest, check: &mut dyn FnMut(Option<bool>, String)) {
    let path = bundle.join("audit.json");
    let audit: Audit = match store::read_json(&path.to_string_lossy()) {
        Ok(audit) => audit,
        Err(error) => return check(Some(false), error.to_string()),
    };
    if audit.schema != SCHEMA {
        return check(None, format!("audit.json: schema {}, and this version reads {SCHEMA}", audit.schema));
    }
    let told: u64 = audit.totals.findings.values().sum();
    if told != audit.findings.len() as u64 {
        check(Some(false), format!("audit.json: counts {told} findings and has {}", audit.findings.len()));
    }
    let of: BTreeMap<&str, &Sliced> = manifest.captures.iter().map(|of| (&*of.path, of)).collect();
    let mut all = 0;
    let cited = cited(audit.findings.iter());
    for of in manifest.captures.iter().filter(|of| !cited.contains_key(&of.path)) {
        check(Some(false), format!("audit.json: cites nothing of {}, which is listed", of.path));
    }
    for (capture, frames) in cited {
        all += frames.len();
        let sha256 = audited_digest(&audit, &capture);
        match of.get(&*capture) {
            Some(of)
                if of.frames.iter().copied().eq(frames.iter().copied()) && of.sha256.as_ref() == sha256 => {}
            Some(_) => {
                check(Some(false), format!("audit.json: cites other frames of {capture} than are listed"))
            }
            None => check(Some(false), format!("audit.json: cites {capture}, which is not listed")),
        }
    }
    check(
        Some(true),
        format!("audit.json: findings: {}, frames that they cite: {all}", audit.findings.len()),
    );
}

/// What is compared of a frame: all that the two formats have in common.
type Compared = (i64, u32, LinkType, Vec<u8>);

/// Frames of a capture: those that are wanted, or all, but no more than so many.
fn frames_of(
    input: &Input,
    wanted: Option<&BTreeSet<u64>>,
    most: usize,
) -> Result<(Vec<Compared>, Option<CaptureEnd>), String> {
    let mut reader = CaptureReader::open(input, Digest::None).map_err(|error| error.problem.to_string())?;
    let mut frames = Vec::new();
    while frames.len() < most
        && let Some(frame) = reader.next()
    {
        if wanted.is_none_or(|wanted| wanted.contains(&frame.number)) {
            // As it is written: no time before 1970, and no frame longer than it was on the wire.
            let length = frame.wire_len.max(u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX));
            frames.push((frame.time.0.max(0), length, frame.link_type, frame.bytes.to_vec()));
        }
    }
    // What comes behind the last of them counts, too.
    if frames.len() < most {
        while reader.next().is_some() {}
    }
    Ok((frames, reader.end().cloned()))
}

/// Whether a slice has as many frames as it should, and they are those of the original, if that is at hand.
fn compared(slice: &Path, of: &Sliced, original: Option<&Input>) -> (Option<bool>, String) {
    let wanted: BTreeSet<u64> = of.frames.iter().copied().collect();
    if !slice.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        return (Some(false), "is no plain file".to_owned());
    }
    let (have, end) = match frames_of(&Input::file(slice), None, wanted.len() + 1) {
        Ok(have) => have,
        Err(problem) => return (Some(false), problem),
    };
    if have.len() > wanted.len() {
        return (Some(false), format!("more frames than the {} that are cited of {}", wanted.len(), of.path));
    }
    if have.len() != wanted.len() || end != Some(CaptureEnd::Complete) {
        let cited = format!("{} are cited of {}", wanted.len(), of.path);
        return (Some(false), format!("{} whole frames, and {cited}, or more behind them", have.len()));
    }
    let Some(original) = original else {
        return (
            Some(true),
            format!("{} frames of {}, which is not at hand to compare them with", have.len(), of.path),
        );
    };
    match frames_of(original, Some(&wanted), wanted.len()) {
        Ok((those, _)) if those == have => {
            (Some(true), format!("{} frames, byte for byte those of {}", have.len(), original.name))
        }
        Ok(_) => (Some(false), format!("other frames than those of {}", original.name)),
        Err(problem) => (None, format!("{}: {problem}", original.name)),
    }
}

/// The bundle that is meant by a directory, or by a file in it.
pub fn bundle_of(path: &Path) -> PathBuf {
    match path.parent() {
        _ if path.is_dir() => path.to_owned(),
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_of_a_bundle_is_none_of_it() {
        for within in ["audit.json", "frames/001.pcapng", "a b/..c"] {
            assert!(stays_within(within), "{within}");
        }
        for out in ["", "/etc/passwd", "../x", "a/../../x", "a/..", "./a/../b"] {
            assert!(!stays_within(out), "{out}");
        }
    }

    #[test]
    fn what_is_not_the_audited_file_or_lacks_frames_is_told() {
        let digest = |text: &str| Some(text.to_owned());
        assert_eq!(is_the_one((digest("ab"), 3), Some("ab"), 3), Ok(()));
        assert_eq!(is_the_one((digest("ab"), 3), None, 3), Ok(()));
        assert!(is_the_one((digest("ac"), 3), Some("ab"), 3).is_err());
        assert!(is_the_one((digest("ab"), 2), Some("ab"), 3).is_err());
    }
}
