//! From a command line to a process that serves a mount.

use super::live::{self, Record};
use super::mount_options::MountOptions;
use super::stack::{self, Built, Facts, Target};
use super::{CliError, Context, logging};
use crate::fuse::{Ended, MountError, MountSettings, Session};
use crate::sys::{self, Detached, Identity};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is to be mounted.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The directories that the options name.
    Directories,
    /// An image or a container of the store.
    Store(Target),
}

/// Everything that a mount is told.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) what: What,
    pub(super) mount_point: PathBuf,
    pub(super) options: MountOptions,
    pub(super) foreground: bool,
    pub(super) log: Option<PathBuf>,
}

/// Mounts. In the foreground this returns when the mount has ended; else when it is ready or has
/// failed, and a daemon goes on.
pub(super) fn start(job: &Job, context: &Context) -> Result<(), CliError> {
    let log = job.log.as_deref().map(logging::open).transpose()?;
    if job.foreground {
        start_log(log, context);
        return serve(job, context, || Ok(()));
    }
    // no thread has been started so far, as detach() demands
    match sys::detach().map_err(|e| CliError::failed("starting a daemon", &e))? {
        Detached::Parent(report) => report.map_err(|text| CliError::unpack(&text)),
        Detached::Daemon(readiness) => {
            start_log(log, context);
            let mut readiness = Some(readiness);
            let served = serve(job, context, || match readiness.take() {
                Some(r) => r.ready(),
                None => Ok(()),
            });
            match (served, readiness) {
                // the process that started this one prints it, if it is still there
                (Err(e), Some(r)) => r.failed(&e.pack()).map_err(|_| e),
                (Err(e), None) => {
                    log::error!("{e}");
                    Err(e)
                }
                (Ok(()), _) => Ok(()),
            }
        }
    }
}

fn start_log(log: Option<std::fs::File>, context: &Context) {
    match log {
        Some(file) => logging::to_file(context, file),
        None => logging::to_stderr(context),
    }
}

/// Mounts, calls `ready` and serves until the end.
fn serve(
    job: &Job,
    context: &Context,
    ready: impl FnOnce() -> sys::Result<()>,
) -> Result<(), CliError> {
    // before any thread, so that all of them leave the signals to the one that waits for them
    let signals = sys::block_signals().map_err(|e| CliError::failed("blocking signals", &e))?;
    log::debug!("{} files may be open", sys::raise_open_files());
    sys::clear_umask();
    crate::fuse::read_helper_ahead(std::env::var_os("PATH").unwrap_or_default());
    let Built { overlay, facts, locks, exclusive, known } = match &job.what {
        What::Directories => stack::directories(&job.options)?,
        What::Store(target) => stack::from_store(&context.root, target, &job.options)?,
    };
    let mut settings = settings(&job.options, &facts, Identity::current());
    settings.exclusive = exclusive;
    let read_only = overlay.read_only();
    let session =
        Session::mount(overlay, &job.mount_point, &settings).map_err(|e| cannot_mount(job, &e))?;
    let stop = Arc::<AtomicBool>::default();
    if let Some(known) = known {
        known.fill(stop.clone());
    }
    let record = record(&session, facts, read_only);
    let entry = live::write(&record)
        .inspect_err(|e| log::info!("no record of this mount could be kept: {e}"))
        .ok();
    if let Some(Err(e)) = entry.as_ref().map(|e| super::stats::answer(&e.socket, &session)) {
        log::info!("nobody can ask for statistics: {e}");
    }
    let started = crate::fuse::leave_working_directory().and_then(|()| ready());
    if let Err(e) = started {
        // nobody waits for the answer any more, but the mount is there and works
        log::warn!("detaching from the caller: {e}");
    }
    let ended = session.run(signals);
    stop.store(true, Ordering::Relaxed);
    drop((entry, locks));
    match ended {
        Ok(Ended::Broken(e)) => Err(CliError::failed("the FUSE connection broke", &e)),
        Ok(why) => {
            log::info!("ended: {why:?}");
            Ok(())
        }
        Err(e) => Err(CliError::failed("changes may not be on disk", &e)),
    }
}

fn cannot_mount(job: &Job, e: &MountError) -> CliError {
    CliError::failed(format!("cannot mount on {}", job.mount_point.display()), e)
        .maybe_hint(e.hint())
}

fn record(session: &Session, facts: Facts, read_only: bool) -> Record {
    Record {
        pid: std::process::id(),
        mount_point: session.mount_point().to_owned(),
        device: session.device().map(str::to_owned),
        source: facts.source.to_string_lossy().into_owned(),
        root: facts.root,
        image: facts.image,
        container: facts.container,
        lowers: facts.lowers,
        upper: facts.upper,
        locked: facts.locked,
        read_only,
    }
}

/// Who may do what in the mount.
///
/// Who may mount by himself (root, or root of a user namespace with its own mounts) gets what the
/// kernel's overlayfs would give: everybody may enter, the kernel enforces permissions, set-id
/// bits and devices count. An ordinary user gets a private mount, unless he opens it.
fn settings(o: &MountOptions, facts: &Facts, me: Identity) -> MountSettings {
    let mounter = me.uid == 0 && sys::effective_capability_sys_admin();
    let source = o.fs_name.clone().unwrap_or_else(|| facts.source.clone());
    let mut s = if mounter || o.allow_other {
        MountSettings::enforced(source)
    } else {
        MountSettings::private(source)
    };
    if o.allow_root && !o.allow_other {
        // the kernel knows no such thing: it lets everybody in, and we turn the others away
        s = MountSettings { allow_root: true, ..MountSettings::enforced(s.source) };
    }
    s.no_xattrs = o.noxattrs;
    s.no_acl = o.noacl;
    s.max_write = o.max_write;
    s.short_numbers = o.short_numbers;
    s.passthrough = o.passthrough;
    s.writeback = o.writeback;
    s.labels.clone_from(&o.labels);
    s.default_permissions |= o.default_permissions;
    s.attributes.nosuid = !o.suid.unwrap_or(mounter);
    s.attributes.nodev = !o.dev.unwrap_or(mounter);
    s.attributes.noexec = o.exec == Some(false);
    s.attributes.noatime = o.atime == Some(false);
    s.attributes.sync = o.sync;
    s.attributes.dirsync = o.dirsync;
    s.timeout = o.timeout;
    s.threads = o.threads;
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_gets_a_private_mount_unless_he_opens_it() {
        let me = Identity { uid: 1000, gid: 1000, privileged: false, user_namespace: false };
        let of = |text: &str| {
            let o = MountOptions::parse(&[text]).unwrap();
            settings(&o, &Facts::default(), me)
        };
        let private = of("lowerdir=/a");
        assert!(!private.allow_other && !private.default_permissions);
        assert!(private.attributes.nosuid && private.attributes.nodev);
        let open = of("lowerdir=/a,allow_other,noexec,noatime,fsname=x");
        assert!(open.allow_other && open.default_permissions);
        assert!(open.attributes.noexec && open.attributes.noatime);
        assert_eq!(open.source, "x");
        let roots = of("lowerdir=/a,allow_root,noxattrs,noacl,max_write=8192");
        assert!(roots.allow_other && roots.allow_root && roots.default_permissions);
        assert!(roots.no_xattrs && roots.no_acl);
        assert_eq!(roots.max_write, Some(8192));
        assert!(!of("lowerdir=/a,allow_root,allow_other").allow_root);
    }
}
