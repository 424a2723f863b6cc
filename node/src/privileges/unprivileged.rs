//! Who the process becomes once it needs no privilege any more.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, chown, lchown},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid, setgroups, setresgid, setresuid};
use tracing::{info, warn};

use super::{Account, PrivilegeError, capabilities, proof};

/// Group and others may write (inode(7)).
const OTHERS_WRITE: u32 = 0o022;

/// Who the process becomes.
#[derive(Clone, Debug)]
pub struct Unprivileged {
    /// `None` if it stays who it is.
    account: Option<Account>,
}

impl Unprivileged {
    /// Chooses: the user that the node file names, if it does; otherwise the user `weir` or, where
    /// there is none, uid 65534. A process that is not root already, or cannot become another, may
    /// stay who it is if the node file names nobody.
    ///
    /// # Errors
    ///
    /// [`PrivilegeError::CannotBecome`].
    pub fn choose(named: Option<&Account>) -> Result<Self, PrivilegeError> {
        let uid = geteuid().as_raw();
        let account = match named {
            Some(account) => account.clone(),
            // What started it has chosen a user already.
            None if uid != 0 => return Ok(Self { account: None }),
            None => Account::by_default(),
        };
        if account.uid == uid {
            return Ok(Self { account: None });
        }
        if capabilities::can_change_user() {
            return Ok(Self {
                account: Some(account),
            });
        }
        if named.is_some() {
            let user = account.name;
            return Err(PrivilegeError::CannotBecome { user, uid });
        }
        warn!(
            user = account.name,
            "cannot become an unprivileged user without CAP_SETUID and CAP_SETGID: ticking as root, \
             without any capability"
        );
        Ok(Self { account: None })
    }

    /// The number of the user that ticks.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.account
            .as_ref()
            .map_or_else(|| geteuid().as_raw(), |account| account.uid)
    }

    /// Makes a directory that is to be the user's, readable by nobody else, or hands over the one
    /// that is there, with the files in it.
    ///
    /// Only a directory that is our own is handed over. In one that is the user's already, whatever
    /// runs as that user could have put a link to a file that it is not to have.
    ///
    /// # Errors
    ///
    /// [`PrivilegeError::Directory`].
    pub fn own_directory(&self, path: &Path, mode: u32) -> Result<(), PrivilegeError> {
        let handed = make(path, mode).and_then(|()| match &self.account {
            Some(account) => hand_over(path, account),
            None => Ok(()),
        });
        handed.map_err(|source| PrivilegeError::Directory {
            path: path.to_owned(),
            user: self.name(),
            source,
        })
    }

    /// Acts as the user: what is made is the user's, and what is the user's is all that can be
    /// reached. Files that the user can write are touched in no other way.
    ///
    /// # Errors
    ///
    /// [`PrivilegeError::Refused`] if the process cannot become the user, even for a while.
    pub fn acting<T>(&self, act: impl FnOnce() -> T) -> Result<T, PrivilegeError> {
        let group = match &self.account {
            Some(account) => account.group(),
            None => getegid(),
        };
        self.acting_in_group(group, act)
    }

    /// The same, but what is made is the group's.
    ///
    /// # Errors
    ///
    /// As of [`Self::acting`].
    pub fn acting_in_group<T>(
        &self,
        group: Gid,
        act: impl FnOnce() -> T,
    ) -> Result<T, PrivilegeError> {
        let user = self.account.as_ref().map(Account::user);
        let _guise = Guise::put_on(user, group)?;
        Ok(act())
    }

    /// Gives up every privilege, for good, and shows that they are gone. To be called before there
    /// is a second thread.
    ///
    /// # Errors
    ///
    /// Any but [`PrivilegeError::CannotBecome`]. The process is of no use then: end it.
    pub fn drop_privileges(&self) -> Result<(), PrivilegeError> {
        capabilities::only_thread()?;
        capabilities::clear_bounding()?;
        if capabilities::can_change_groups() {
            setgroups(&[]).map_err(refused("leaving the supplementary groups"))?;
        }
        if let Some(account) = &self.account {
            let (user, group) = (account.user(), account.group());
            setresgid(group, group, group).map_err(refused("changing the group"))?;
            setresuid(user, user, user).map_err(refused("changing the user"))?;
        }
        capabilities::clear_the_rest()?;
        let is_bounding_set_empty = capabilities::verify()?;
        let refusal = proof::cannot_load()?;
        info!(
            user = self.name(),
            uid = self.uid(),
            gid = getegid().as_raw(),
            is_bounding_set_empty,
            load = %refusal,
            "privileges dropped: no capability is left, and the kernel refused to load a program"
        );
        Ok(())
    }

    /// What people call the user that ticks.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.account {
            Some(account) => account.name.clone(),
            None => geteuid().to_string(),
        }
    }
}

fn refused(step: &'static str) -> impl FnOnce(nix::Error) -> PrivilegeError {
    move |errno| PrivilegeError::Refused {
        step,
        source: errno.into(),
    }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    fs::DirBuilder::new().mode(mode).create(path)
}

fn hand_over(path: &Path, account: &Account) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let is_ours = found.uid() == geteuid().as_raw();
    if !is_ours || !capabilities::can_give_away() {
        return Ok(());
    }
    let files = own_files(path, &found)?;
    let (user, group) = (Some(account.uid), Some(account.gid));
    for file in files {
        lchown(file, user, group)?;
    }
    // Last: until then nobody else can put anything into it.
    chown(path, user, group)
}

/// The files of a directory that has nothing else in it. A directory of others, such as `/var/lib`,
/// is not given away by mistake.
fn own_files(path: &Path, directory: &fs::Metadata) -> io::Result<Vec<PathBuf>> {
    if directory.mode() & OTHERS_WRITE != 0 {
        let message = "it is root's, and others may write to it; give it to the user";
        return Err(io::Error::other(message));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let found = fs::symlink_metadata(&path)?;
        let kind = found.file_type();
        if !(kind.is_file() || kind.is_socket()) || found.nlink() > 1 {
            return Err(io::Error::other(format!(
                "it is root's, and holds more than weir-node keeps there, such as {}; name another",
                path.display()
            )));
        }
        files.push(path);
    }
    Ok(files)
}

/// Makes what `act` makes the group's.
///
/// # Errors
///
/// [`PrivilegeError::Refused`] if the process cannot.
pub fn in_group<T>(group: Gid, act: impl FnOnce() -> T) -> Result<T, PrivilegeError> {
    let _guise = Guise::put_on(None, group)?;
    Ok(act())
}

/// Another effective identity, put on until this is dropped.
struct Guise {
    user: Uid,
    group: Gid,
}

impl Guise {
    fn put_on(user: Option<Uid>, group: Gid) -> Result<Self, PrivilegeError> {
        let own = Self {
            user: geteuid(),
            group: getegid(),
        };
        // The group first, while that may be done. From then on `own` puts back what was changed.
        if group != own.group {
            setegid(group).map_err(refused("acting as another group"))?;
        }
        if let Some(user) = user {
            seteuid(user).map_err(refused("acting as another user"))?;
        }
        Ok(own)
    }
}

impl Drop for Guise {
    fn drop(&mut self) {
        let restored = seteuid(self.user).and_then(|()| setegid(self.group));
        restored.expect("the real user and group may always become effective again");
    }
}
