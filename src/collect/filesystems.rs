//! Space and inodes of mounted file systems: the mounts from `mountinfo`, the figures from `statvfs`.
//!
//! `statvfs` of a local file system answers from memory and is called in place, for a microsecond or two, once its
//! device has proven to answer: the first time it is asked by a helper thread of [`Prober`]. One behind a network, or in
//! user space (FUSE), may never answer; nor may any other whose path leads through such a mount. Those are always asked
//! by threads, and so is, from then on, a local one that took its time once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::prober::{FIRST_PATIENCE, PATIENCE, Prober};
use super::text::{self, words};
use super::{
    Collector, CollectorSpec, Context, Draft, FsStat, MetricSpec, ParamError, ParamKind, ParamSpec, Params, Points,
    ProcFile,
};
use crate::clock;
use crate::platform::files;
use crate::record::{ErrorKind, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "filesystems",
    about: "space and inodes of mounted file systems, one record per mount point",
    default_schedule: "60s",
    default_on: true,
    params: &[
        ParamSpec { name: "mounts", kind: ParamKind::List, about: "only these mount points", default: "[]" },
        ParamSpec {
            name: "types",
            kind: ParamKind::List,
            about: "also these types, which are left out otherwise, such as tmpfs",
            default: "[]",
        },
        ParamSpec {
            name: "network",
            kind: ParamKind::Bool,
            about: "also network and FUSE file systems",
            default: "false",
        },
        ParamSpec {
            name: "timeout",
            kind: ParamKind::Duration,
            about: "after this a network file system that does not answer is reported",
            default: "\"5s\"",
        },
    ],
    metrics: METRICS,
    build,
};

pub(super) const NAME: &str = "system.filesystem";

const METRICS: &[MetricSpec] = &[
    MetricSpec::updown(NAME, "limit", "By").is("system.filesystem.limit", "size of the file system"),
    MetricSpec::updown(NAME, "usage", "By").is("system.filesystem.usage{system.filesystem.state=used}", "space in use"),
    MetricSpec::updown(NAME, "available", "By")
        .is("system.filesystem.usage{system.filesystem.state=free}", "space that users other than root can still get"),
    MetricSpec::gauge(NAME, "utilization", "1")
        .is("system.filesystem.utilization", "usage / (usage + available), as df shows it"),
    MetricSpec::updown(NAME, "inodes_limit", "{inode}").ours("inodes there are; absent where they are made on demand"),
    MetricSpec::updown(NAME, "inodes_usage", "{inode}").ours("inodes in use"),
    MetricSpec::gauge(NAME, "inodes_utilization", "1").ours("inodes_usage / inodes_limit"),
    MetricSpec::gauge(NAME, "read_only", "1")
        .ours("whether the file system is read-only, from its mount on or after an error"),
];

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The kernel tells what is mounted, remounted or unmounted, but not that an error made a file system read-only.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// No disk behind them, or nothing that a user fills.
const PSEUDO: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "erofs",
];

/// May hang when a server, or a daemon, is away.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "ncpfs",
    "ocfs2",
    "gfs2",
    "beegfs",
    "virtiofs",
];

/// Local, and yet they may: a disk behind a daemon (NTFS), a mount that is made when it is touched, and one that waits
/// for ever once its disks have failed.
const WAITING: &[&str] = &["fuseblk", "autofs", "zfs"];

/// One line of `mountinfo`.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    pub path: Vec<u8>,
    /// `major:minor`: the same for bind mounts and subvolumes of one file system.
    pub device: Vec<u8>,
    /// Only a part of that file system is mounted here.
    bind: bool,
    kind: String,
    source: String,
    read_only: bool,
    /// Its `statvfs` may never return, however often it has.
    hangs: bool,
    /// An error is no news: nobody asked for it by name.
    quiet: bool,
}

impl Mount {
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// Its `statvfs` is left to a thread.
    fn may_hang(&self) -> bool {
        self.is_network() || WAITING.contains(&self.kind.as_str())
    }

    /// Whoever walks to it walks through `other`.
    fn is_below(&self, other: &[u8]) -> bool {
        let rest = self.path.strip_prefix(other);
        rest.is_some_and(|rest| rest.starts_with(b"/") || (other == b"/" && !rest.is_empty()))
    }

    fn is_network(&self) -> bool {
        NETWORK.contains(&self.kind.as_str()) || self.kind == "fuse" || self.kind.starts_with("fuse.")
    }

    pub(super) fn path(&self) -> Cow<'_, Path> {
        files::path(&self.path)
    }

    fn tag<'a>(&self, draft: Draft<'a>) -> Draft<'a> {
        let draft = draft.tag("mountpoint", text::name(&self.path)).tag("type", self.kind.clone());
        draft.tag("device", self.source.clone())
    }

    pub(super) fn emit(&self, stat: &FsStat, draft: Draft<'_>) {
        let bytes = |blocks: u64| blocks.saturating_mul(stat.block_size);
        // Figures that contradict each other (a damaged file system, a careless server) give no usage.
        let used = stat.blocks.checked_sub(stat.blocks_free);
        let mut draft = self.tag(draft).bool("read_only", self.read_only);
        draft = draft.uint("limit", bytes(stat.blocks)).uint("available", bytes(stat.blocks_available));
        if let Some(used) = used {
            let reachable = used as f64 + stat.blocks_available as f64;
            draft = draft.uint("usage", bytes(used)).ratio("utilization", used as f64, reachable);
        }
        if stat.inodes > 0 {
            let used = stat.inodes.checked_sub(stat.inodes_free);
            draft = draft.uint("inodes_limit", stat.inodes).uint("inodes_usage", used);
            if let Some(used) = used {
                draft.ratio("inodes_utilization", used as f64, stat.inodes as f64);
            }
        }
    }

    pub(super) fn fail(&self, error: &io::Error, out: &mut Points) {
        if self.quiet {
            return;
        }
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Unsupported,
        };
        self.report(RunError::new(kind, format!("{}: {error}", text::excerpt(&self.path))), out);
    }

    pub(super) fn report(&self, error: RunError, out: &mut Points) {
        self.tag(out.fail(NAME, error));
    }
}

impl Table {
    /// Puts each mount where it belongs by what is known of its device now.
    fn sort(&mut self, pace: &BTreeMap<Vec<u8>, Pace>) {
        let in_place = |mount: &Mount| !mount.hangs && pace.get(&mount.device) == Some(&Pace::Quick);
        let slowed: Vec<Mount> = self.in_place.extract_if(.., |mount| !in_place(mount)).collect();
        self.in_place.extend(self.by_thread.extract_if(.., |mount| in_place(mount)));
        self.by_thread.extend(slowed);
    }
}

struct Filesystems {
    file: Option<ProcFile>,
    only: BTreeSet<Vec<u8>>,
    types: BTreeSet<String>,
    network: bool,
    prober: Prober,
    table: Table,
    /// `mountinfo` is read at this time (monotonic) even if nothing was mounted.
    read_again: Duration,
    /// By device; not those that have not answered yet.
    pace: BTreeMap<Vec<u8>, Pace>,
    /// How long the next run waits for the threads: the first one longer.
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// It has answered a thread in time.
    Quick,
    /// It once kept the loop waiting.
    Slow,
}

/// What the last `mountinfo` came to: the table rarely changes, and reading it is most of a run.
#[derive(Default)]
struct Table {
    text: Vec<u8>,
    in_place: Vec<Mount>,
    by_thread: Vec<Mount>,
    /// Mount points that are asked for and are none.
    missing: Vec<Vec<u8>>,
}

fn build(params: &Params) -> Result<Box<dyn Collector>, ParamError> {
    let only: BTreeSet<Vec<u8>> = params.list("mounts").iter().map(|m| m.clone().into_bytes()).collect();
    if let Some(bad) = only.iter().find(|m| !m.starts_with(b"/")) {
        return Err(ParamError::value("mounts", format!("{} is no absolute path", text::excerpt(bad))));
    }
    Ok(Box::new(Filesystems {
        file: None,
        only,
        types: params.list("types").iter().cloned().collect(),
        network: params.bool("network").unwrap_or(false),
        prober: Prober::new(params.duration("timeout").unwrap_or(DEFAULT_TIMEOUT)),
        table: Table::default(),
        read_again: Duration::ZERO,
        pace: BTreeMap::new(),
        patience: FIRST_PATIENCE,
    }))
}

impl Collector for Filesystems {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        self.refresh(ctx)?;
        for path in &self.table.missing {
            let message = format!("nothing is mounted at {}", text::excerpt(path));
            out.fail(NAME, RunError::new(ErrorKind::Unsupported, message)).tag("mountpoint", text::name(path));
        }
        let patience = std::mem::replace(&mut self.patience, PATIENCE);
        self.ask_in_place(ctx, out);
        for device in self.prober.probe(ctx, &self.table.by_thread, patience, out) {
            self.pace.entry(device).or_insert(Pace::Quick);
        }
        self.table.sort(&self.pace);
        Ok(())
    }
}

impl Filesystems {
    fn refresh(&mut self, ctx: &Context<'_>) -> Result<(), RunError> {
        let rel = ctx.host.namespace("mountinfo");
        let file = match &mut self.file {
            Some(file) if file.rel() == rel => file,
            slot => slot.insert(ProcFile::new(rel.clone())),
        };
        // Asked first: a change between the two is then read, and asked for in vain once more.
        if file.is_unchanged(ctx.host) && ctx.now.mono < self.read_again {
            return Ok(());
        }
        self.read_again = Duration::ZERO;
        let text = file.read(ctx.host)?;
        if text != self.table.text || text.is_empty() {
            let mounts: Vec<Mount> = text::lines(text).filter_map(parse).collect();
            if mounts.is_empty() {
                let first = text::lines(text).next().unwrap_or_default();
                return Err(text::malformed(&rel, "at least one mount", first));
            }
            let text = text.to_vec();
            self.table = self.read(text, mounts);
        }
        self.read_again = ctx.now.mono + READ_AGAIN;
        Ok(())
    }

    fn ask_in_place(&mut self, ctx: &Context<'_>, out: &mut Points) {
        for mount in &self.table.in_place {
            let before = clock::now().mono;
            let result = ctx.host.statfs(&mount.path());
            // A disk that fails is slow before it is dead. On a busy machine it may be a mistake: it costs a thread.
            if clock::now().mono.saturating_sub(before) > PATIENCE {
                self.pace.insert(mount.device.clone(), Pace::Slow);
            }
            match result {
                Ok(stat) => mount.emit(&stat, out.add(NAME)),
                Err(error) => mount.fail(&error, out),
            }
        }
    }

    fn read(&mut self, text: Vec<u8>, mounts: Vec<Mount>) -> Table {
        self.pace.retain(|device, _| mounts.iter().any(|mount| mount.device == *device));
        let hanging: Vec<Vec<u8>> = mounts.iter().filter(|m| m.may_hang()).map(|m| m.path.clone()).collect();
        let mut chosen = self.choose(mounts);
        let missing = self.only.iter().filter(|path| !chosen.iter().any(|mount| mount.path == **path));
        let missing = missing.cloned().collect();
        for mount in &mut chosen {
            mount.hangs = mount.may_hang() || hanging.iter().any(|other| mount.is_below(other));
            // A local one fails when it was unmounted just now, or lies where this user may not go.
            mount.quiet = !mount.hangs && !self.only.contains(&mount.path);
        }
        chosen.sort_by_key(|mount| mount.hangs);
        let mut table = Table { text, in_place: Vec::new(), by_thread: chosen, missing };
        table.sort(&self.pace);
        table
    }

    fn choose(&self, mounts: Vec<Mount>) -> Vec<Mount> {
        // Of several mounts at one place the last hides the others.
        let mut by_path: BTreeMap<Vec<u8>, (usize, Mount)> = BTreeMap::new();
        for (order, mount) in mounts.into_iter().enumerate() {
            by_path.insert(mount.path.clone(), (order, mount));
        }
        let mut visible: Vec<_> = by_path.into_values().filter(|(_, mount)| self.wants(mount)).collect();
        visible.sort_by_key(|(order, mount)| (mount.path != b"/", *order));
        let mut seen = BTreeSet::new();
        let mut chosen: Vec<Mount> = visible.into_iter().map(|(_, mount)| mount).collect();
        // Bind mounts and subvolumes share the space of one device: it is told once, unless asked for by name.
        chosen.retain(|mount| !self.only.is_empty() || seen.insert(mount.device.clone()));
        chosen
    }

    fn wants(&self, mount: &Mount) -> bool {
        if !self.only.is_empty() {
            return self.only.contains(&mount.path);
        }
        if self.types.contains(&mount.kind) {
            return true;
        }
        let at_root = mount.path == b"/";
        match mount.kind.as_str() {
            _ if mount.is_network() => self.network,
            kind if PSEUDO.contains(&kind) => false,
            // Those of containers would be one record per container; that of our own root is the disk we live on.
            "overlay" => at_root,
            "btrfs" => true,
            // A directory or file of another mount, mounted here once more.
            _ => at_root || !mount.bind,
        }
    }
}

/// `36 35 98:0 /sub /mnt rw,noatime master:1 - ext4 /dev/sda1 rw,errors=remount-ro`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = words(line).skip(2);
    let device = words.next()?.to_vec();
    let root = words.next()?;
    let path = unescape(words.next()?);
    let mut words = words.skip_while(|word| *word != b"-").skip(1);
    let kind = text::clean(words.next()?, 64);
    let source = text::clean(&unescape(words.next()?), 255);
    // The file system's own options. Those of the mount, before the dash, are `ro` for all of them in a service with
    // ProtectSystem=strict, and say nothing of the host.
    let read_only = words.next().is_some_and(|options| options.split(|&b| b == b',').any(|o| o == b"ro"));
    let (bind, hangs, quiet) = (root != b"/", true, false);
    path.starts_with(b"/").then_some(Mount { path, device, bind, kind, source, read_only, hangs, quiet })
}

/// `\040` is how the kernel writes a space; also tab, newline and backslash.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|d| first == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match octal.map(|d| d.iter().fold(0u32, |n, b| n * 8 + u32::from(b - b'0'))).and_then(|n| u8::try_from(n).ok())
        {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}
