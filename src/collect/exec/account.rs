//! Users and groups by name, from the host's own lists of accounts. Other directories of users are not asked.

use std::path::Path;

use serde::{Deserialize, Serialize};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// One user, as far as running something as them needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

/// The account called `name`, or with that number.
pub fn find(name: &str) -> Result<Account, String> {
    find_in(Path::new(PASSWD), name)
}

fn find_in(passwd: &Path, name: &str) -> Result<Account, String> {
    let text = std::fs::read(passwd).map_err(|error| format!("{}: {error}", passwd.display()))?;
    let accounts = String::from_utf8_lossy(&text);
    let mut accounts = accounts.lines().filter_map(account);
    let wanted = |account: &Account| account.name == name || name.parse() == Ok(account.uid);
    accounts.find(wanted).ok_or_else(|| format!("no user {name:?} in {}", passwd.display()))
}

/// `name:password:uid:gid:comment:home:shell`: passwd(5).
fn account(line: &str) -> Option<Account> {
    let mut columns = line.split(':');
    let name = columns.next().filter(|name| !name.is_empty())?;
    let mut columns = columns.skip(1);
    let (uid, gid) = (columns.next()?.parse().ok()?, columns.next()?.parse().ok()?);
    let home = columns.nth(1).unwrap_or("/");
    Some(Account { name: name.to_owned(), uid, gid, home: home.to_owned() })
}

/// The number of the group called `name`, or with that number.
pub fn find_group(name: &str) -> Result<u32, String> {
    let text = std::fs::read(GROUP).map_err(|error| format!("{GROUP}: {error}"))?;
    // `name:password:gid:members`: group(5).
    let group = |line: &str| {
        let mut columns = line.split(':');
        Some((columns.next()?.to_owned(), columns.nth(1)?.parse::<u32>().ok()?))
    };
    let text = String::from_utf8_lossy(&text);
    let found = text.lines().filter_map(group).find(|(known, gid)| known == name || name.parse() == Ok(*gid));
    found.map(|(_, gid)| gid).ok_or_else(|| format!("no group {name:?} in {GROUP}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passwd");
        std::fs::write(
            &file,
            b"\n# x\nroot:x:0:0:root:/root:/bin/sh\nodd:x:1\nm\xf6n:x:9:9::/:\nnobody:x:65534:99::/no:\n",
        )
        .unwrap();
        let nobody = Account { name: "nobody".into(), uid: 65_534, gid: 99, home: "/no".into() };
        assert_eq!(find_in(&file, "nobody"), Ok(nobody.clone()));
        assert_eq!(find_in(&file, "65534"), Ok(nobody));
        for none in ["odd", "", "1", "# x", "nobody "] {
            assert!(find_in(&file, none).unwrap_err().contains("no user"), "{none}");
        }
        assert!(find_in(&dir.path().join("none"), "root").unwrap_err().contains("none: "));
    }
}
