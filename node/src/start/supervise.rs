//! Two processes where one has to clean up: a child that ticks, and its parent, which keeps its
//! privileges and does nothing but wait.

use std::{net::Shutdown, os::unix::net::UnixStream};

use anyhow::Context;
use nix::{
    sys::{
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use tokio::io::AsyncReadExt as _;
use tracing::info;

use super::signals;

/// Which of the two this process is.
pub(super) enum Side {
    /// It ticks.
    Child(Lifeline),
    /// It waits.
    Parent(Child),
}

/// Splits this process in two. Both have all that it has.
///
/// The signals that stop a daemon have to be held, and there has to be one thread.
pub(super) fn split() -> anyhow::Result<Side> {
    let (near, far) = UnixStream::pair().context("no pair of sockets")?;
    // Before there is a child, so that its end is not missed.
    let mut awaited = signals::stopping();
    awaited.add(Signal::SIGCHLD);
    awaited.thread_block().context("no signal mask")?;
    // SAFETY: there is one thread, so no lock is held by another that the child would not have.
    match unsafe { fork() }.context("no second process")? {
        ForkResult::Child => {
            drop(near);
            Ok(Side::Child(Lifeline(far)))
        }
        ForkResult::Parent { child } => {
            drop(far);
            Ok(Side::Parent(Child {
                process: child,
                lifeline: near,
                awaited,
            }))
        }
    }
}

/// The child's end of a connection on which nothing is ever sent: it ends when the parent says so,
/// and when the parent is killed.
pub(super) struct Lifeline(UnixStream);

impl Lifeline {
    /// Ready when the child is to end. To be called in the event loop.
    pub(super) fn cut(self) -> anyhow::Result<impl Future<Output = ()>> {
        self.0.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(self.0)?;
        Ok(async move {
            let mut nothing = [0];
            let _ = stream.read(&mut nothing).await;
        })
    }
}

/// The parent's view of the child.
pub(super) struct Child {
    process: Pid,
    lifeline: UnixStream,
    awaited: SigSet,
}

/// How the child ended.
pub(super) enum Ended {
    /// By itself, with this exit code. It has said why.
    With(i32),
    /// Killed.
    By(Signal),
}

impl Child {
    /// Waits until the child has ended. Told to stop, it tells the child; told again, it kills it.
    pub(super) fn wait(self) -> anyhow::Result<Ended> {
        let mut is_told = false;
        loop {
            match self.awaited.wait().context("waiting for a signal")? {
                Signal::SIGCHLD => {
                    if let Some(ended) = self.ended()? {
                        return Ok(ended);
                    }
                }
                _ if is_told => {
                    // If it has ended meanwhile, so much the better.
                    let _ = kill(self.process, Signal::SIGKILL);
                }
                signal => {
                    info!("stopping on {signal}");
                    is_told = true;
                    // It fails if there is no child any more to hear of it.
                    let _ = self.lifeline.shutdown(Shutdown::Both);
                }
            }
        }
    }

    fn ended(&self) -> anyhow::Result<Option<Ended>> {
        let status = waitpid(self.process, Some(WaitPidFlag::WNOHANG));
        Ok(match status.context("waiting for the ticking process")? {
            WaitStatus::Exited(_, code) => Some(Ended::With(code)),
            WaitStatus::Signaled(_, signal, _) => Some(Ended::By(signal)),
            _ => None,
        })
    }
}
