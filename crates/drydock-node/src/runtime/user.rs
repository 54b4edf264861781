//! Users of an image: from the text of its `/etc/passwd` and `/etc/group` to numbers.

use super::bundle::User;
use crate::error::{Error, Result};
use std::path::Path;

/// What `/etc/passwd` says of the chosen user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: User,
    /// Home folder, `/` if the image does not know the user.
    pub(crate) home: String,
    /// Whether the image gave a name instead of a number (`runAsNonRoot` cannot be proven then).
    pub(crate) by_name: bool,
}

/// Largest file read (bytes).
const MAX: u64 = 1 << 20;

/// Files of the image; a link could lead out of it and is not followed.
pub(crate) fn read(root: &Path, name: &str) -> String {
    let path = root.join(name);
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() && meta.len() <= MAX => std::fs::read_to_string(path).unwrap_or_default(),
        _ => String::new(),
    }
}

/// Resolves the image's `User` (`""`, `1337`, `1337:1337`, `name`, `name:group`), overridden by `run_as_user` and
/// `run_as_group` of the security context.
pub(crate) fn resolve(
    image_user: &str,
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    passwd: &str,
    group: &str,
) -> Result<Account> {
    let (name, group_name) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (image_user, None),
    };
    let number = |value: i64, field: &str| {
        u32::try_from(value).map_err(|_| Error::Pod(format!("securityContext.{field} {value} is not a user ID")))
    };
    let rows = || {
        passwd
            .lines()
            .map(|l| l.split(':').collect::<Vec<_>>())
            .filter(|r| r.len() >= 6)
    };
    let (row, uid) = match (run_as_user, name.parse::<u32>()) {
        (Some(uid), _) => {
            let uid = number(uid, "runAsUser")?;
            (rows().find(|r| r[2].parse() == Ok(uid)), uid)
        }
        (None, _) if name.is_empty() => (rows().find(|r| r[2] == "0"), 0),
        (None, Ok(uid)) => (rows().find(|r| r[2].parse() == Ok(uid)), uid),
        (None, Err(_)) => {
            let row = rows()
                .find(|r| r[0] == name)
                .ok_or_else(|| Error::Pod(format!("the image's user {name:?} is not in its /etc/passwd")))?;
            let uid = row[2]
                .parse()
                .map_err(|_| Error::Pod(format!("the image's user {name:?} has no numeric ID")))?;
            (Some(row), uid)
        }
    };
    let groups = || {
        group
            .lines()
            .map(|l| l.split(':').collect::<Vec<_>>())
            .filter(|r| r.len() >= 4)
    };
    let gid = match (run_as_group, run_as_user, group_name) {
        (Some(gid), _, _) => number(gid, "runAsGroup")?,
        (None, None, Some(name)) => match name.parse() {
            Ok(gid) => gid,
            Err(_) => groups()
                .find(|r| r[0] == name)
                .and_then(|r| r[2].parse().ok())
                .ok_or_else(|| Error::Pod(format!("the image's group {name:?} is not in its /etc/group")))?,
        },
        _ => row.as_ref().and_then(|r| r[3].parse().ok()).unwrap_or(0),
    };
    let login = row.as_ref().map(|r| r[0]);
    let supplementary = groups()
        .filter(|r| r[3].split(',').any(|m| Some(m) == login))
        .filter_map(|r| r[2].parse().ok())
        .filter(|g| *g != gid)
        .collect();
    Ok(Account {
        user: User {
            uid,
            gid,
            groups: supplementary,
        },
        home: row.map_or("/", |r| r[5]).to_string(),
        by_name: run_as_user.is_none() && !name.is_empty() && name.parse::<u32>().is_err(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nistio-proxy:x:1337:1337::/home/p:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nextra:x:7:istio-proxy\n";

    fn check(image: &str, user: Option<i64>, group: Option<i64>, want: (u32, u32, &str)) {
        let account = resolve(image, user, group, PASSWD, GROUP).unwrap();
        assert_eq!(
            (account.user.uid, account.user.gid, account.home.as_str()),
            want,
            "{image} {user:?}"
        );
    }

    #[test]
    fn every_spelling() {
        check("", None, None, (0, 0, "/root"));
        check("1337", None, None, (1337, 1337, "/home/p"));
        check("istio-proxy", None, None, (1337, 1337, "/home/p"));
        check("istio-proxy:extra", None, None, (1337, 7, "/home/p"));
        check("1000:2000", None, None, (1000, 2000, "/"));
        check("istio-proxy", Some(0), None, (0, 0, "/root"));
        check("", Some(1337), Some(0), (1337, 0, "/home/p"));
        assert_eq!(
            resolve("istio-proxy", None, None, PASSWD, GROUP).unwrap().user.groups,
            [7]
        );
        assert!(resolve("nobody", None, None, PASSWD, GROUP).is_err());
        assert!(resolve("", Some(-1), None, PASSWD, GROUP).is_err());
    }
}
