//! `[put]`: the socket for applications.

use super::reader::{Reader, Section, quote};
use super::{Outbox, Put};
use crate::collect::exec::find_group;
use crate::put::SOCKET;

/// A socket's path has a limit in the kernel (108 bytes with its end, and `.new` stands in for `.sock` meanwhile).
const MAX_PATH: usize = 103;

pub(super) fn check(mut section: Section, outbox: Option<&Outbox>, reader: &mut Reader<'_>) -> Option<Put> {
    let enabled = reader.bool(&mut section, "enabled")?;
    let configured = reader.path(&mut section, "socket");
    let group = reader.text(&mut section, "group");
    let mode = reader.text(&mut section, "mode");
    let records_per_s = u32::try_from(reader.int(&mut section, "records_per_s")?).ok()?;
    reader.finish(section);
    let socket = match configured {
        Some(socket) => socket,
        None => {
            let socket = outbox?.dir.join(SOCKET);
            reader.derive("put.socket", quote(&socket.to_string_lossy()));
            socket
        }
    };
    if enabled && socket.as_os_str().len() > MAX_PATH {
        let message = format!("{} is longer than the {MAX_PATH} bytes that a socket's path may have", socket.display());
        reader.error("put.socket", message, "choose a shorter one, such as /run/holdover/put.sock");
    }
    let gid = group.as_deref().filter(|_| enabled).and_then(|name| match find_group(name) {
        Ok(gid) => Some(gid),
        Err(message) => {
            reader.error("put.group", message, "create it: groupadd --system NAME");
            None
        }
    });
    let mode = match (mode.as_deref(), &group) {
        (Some("0666"), _) => 0o666,
        (Some("0660"), _) | (None, Some(_)) => 0o660,
        _ => 0o600,
    };
    Some(Put { enabled, socket, gid, mode, records_per_s })
}
