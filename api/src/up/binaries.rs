//! The place of Postgres's programs, and the account that they run under.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

use anyhow::{Context, Result, bail};

/// An account other than this process's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The account that Postgres runs under. Postgres refuses to run as root; root therefore starts it as `postgres` or
/// `nobody`. `None` is the account of this process.
pub(super) fn unprivileged_user() -> Result<Option<User>> {
    if effective_uid()? != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    match ["postgres", "nobody"].iter().find_map(|name| account(&accounts, name)) {
        Some(user) => Ok(Some(user)),
        None => bail!(
            "Postgres refuses to run as root, and neither a user postgres nor a user nobody exists; add one, or set DATABASE_URL"
        ),
    }
}

/// The user id that owns the files which this process makes.
pub(super) fn effective_uid() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

fn account(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(User { name: name.into(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    })
}

/// The folder of Postgres's programs: `given`, or the first of the usual places. `user` must be able to enter it, and
/// the programs must have the major version `wanted_major` of an existing cluster.
pub(super) fn find(given: Option<&Path>, user: Option<&User>, wanted_major: Option<&str>) -> Result<PathBuf> {
    let places = match given {
        Some(folder) => vec![folder.to_owned()],
        None => places(),
    };
    let mut refused = Vec::new();
    for place in places.iter().filter(|place| place.join("postgres").is_file() && place.join("initdb").is_file()) {
        // Links are resolved because the programs look for their libraries relative to their own place.
        let real = fs::canonicalize(place.join("postgres"))?;
        let folder = real.parent().unwrap_or(place).to_owned();
        if let Some(user) = user
            && let Some(closed) = first_closed(&folder, user)
        {
            refused.push(format!("{}: user {} may not enter {}", folder.display(), user.name, closed.display()));
            continue;
        }
        let major = major_version(&real)?;
        match wanted_major {
            Some(wanted) if wanted != major => refused.push(format!("{}: version {major}", folder.display())),
            _ => return Ok(folder),
        }
    }
    let wanted = wanted_major.map_or_else(String::new, |major| format!(" {major} (the data in this home needs it)"));
    if refused.is_empty() {
        bail!("no Postgres{wanted} found; install it, name its bin folder with --postgres-bin, or set DATABASE_URL")
    }
    bail!(
        "no Postgres{wanted} that can be used; name its bin folder with --postgres-bin, or set DATABASE_URL. Found:\n  {}",
        refused.join("\n  ")
    )
}

/// The folders in which the programs may be, in this order. `deploy/setup.sh` looks in the same places.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    places.extend(debian_versions(Path::new("/usr/lib/postgresql")));
    let home_cache = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/lamina"));
    let caches = [env::var_os("LAMINA_CACHE").map(PathBuf::from), Some(PathBuf::from("/var/cache/lamina")), home_cache];
    places.extend(caches.into_iter().flatten().map(|cache| cache.join("postgres-18/bin")));
    places
}

/// The folders `ROOT/VERSION/bin`, newest version first.
fn debian_versions(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// The major version of the program, such as `15` if it prints "postgres (PostgreSQL) 15.18 (Debian ...)".
fn major_version(postgres: &Path) -> Result<String> {
    let output = Command::new(postgres).arg("--version").output();
    let output = output.with_context(|| format!("{} does not run", postgres.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = text.split(") ").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    match major {
        Some(major) if !major.is_empty() => Ok(major),
        _ => bail!("{} --version prints {text:?}, which contains no version", postgres.display()),
    }
}

/// The first folder on the way to `path`, including `path` itself, that `user` may not enter. A folder that does not
/// exist is skipped.
pub(super) fn first_closed<'a>(path: &'a Path, user: &User) -> Option<&'a Path> {
    let mut folders: Vec<&Path> = path.ancestors().collect();
    folders.reverse();
    folders.into_iter().find(|folder| {
        fs::metadata(folder).is_ok_and(|meta| {
            let enter = match () {
                () if meta.uid() == user.uid => 0o100,
                () if meta.gid() == user.gid => 0o010,
                () => 0o001,
            };
            meta.mode() & enter == 0
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_account_is_found_by_its_exact_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:8::/:\npostgres:x:101:104:,,,:/var:/bin/sh\n";
        assert_eq!(account(passwd, "postgres"), Some(User { name: "postgres".into(), uid: 101, gid: 104 }));
        assert_eq!(account(passwd, "nobody"), None);
    }

    #[test]
    fn versions_are_ordered_by_number_newest_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "18", "notes"] {
            fs::create_dir(root.path().join(version)).unwrap();
        }
        let found = debian_versions(root.path());
        let expected: Vec<PathBuf> = ["18", "15", "9"].iter().map(|v| root.path().join(v).join("bin")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_folder_that_a_user_may_not_enter_is_found() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (closed, inner) = (root.path().join("closed"), root.path().join("closed/inner"));
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = User { name: "stranger".into(), uid: 4_000_000_000, gid: 4_000_000_000 };
        assert_eq!(first_closed(&inner, &stranger), Some(closed.as_path()));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(first_closed(&closed, &stranger), None);
    }

    #[test]
    fn the_error_about_a_missing_postgres_names_the_options_that_help() {
        let empty = tempfile::tempdir().unwrap();
        let error = find(Some(empty.path()), None, None).unwrap_err().to_string();
        assert!(error.contains("DATABASE_URL") && error.contains("--postgres-bin"), "{error}");
    }
}
