//! What the merged view is. Documentation only; the tests named carry each statement.
//!
//! The oracle is the kernel's overlayfs (`Documentation/filesystems/overlayfs.rst`, Linux 6.18).
//! Where stratafs differs it is nearer to POSIX, and that is said here.
//!
//! # Stacking
//! * The topmost layer that holds a name decides; directories merge until a whiteout, an opaque
//!   directory or a non-directory of that name ends it (`resolve::tests`, `engine::merge`).
//! * A whiteout in a directory that nothing lies below is not shown. The kernel lists such a name
//!   and then does not find it.
//! * Redirects in layers are followed: siblings and absolute paths, also through further
//!   redirects (`engine::merge::redirects_lead_to_the_lower_directory`).
//! * Metacopy files lead to their data, by name, sibling or absolute redirect, also in data-only
//!   layers (`engine::metacopy`). Layers of the store are not believed such marks. A file whose
//!   data is not found fails with `EIO`, and the log names it, its layer, and what it looked for; it
//!   never reads as zeros.
//!
//! # Changes
//! * A lower layer is opened read-only, whatever happens. `O_TRUNC` copies up, also with
//!   `O_RDONLY` (`engine::changes::truncating_opens_copy_up_even_when_read_only`).
//! * Copy-up keeps content, holes, times, mode, owner and extended attributes of every type of
//!   file, and its parent's times; a failure at any step leaves the old or the new state
//!   (`engine::faults`). With `fsync=strict`, and on file systems other than ext4, xfs and btrfs,
//!   data is synced before the copy gets its name, as in the kernel. With `fsync=auto`, the default,
//!   a mount puts it in place first and writes it out within seconds: after a crash each block of
//!   the copy is the lower's or what was written, and what was synced stays (`engine::settle`). For
//!   that time the copy carries a metacopy mark that the kernel's overlayfs refuses (`EIO`) until we
//!   have mounted that upper again. `volatile` syncs nothing.
//! * With `lazy_copy_up` a file of 4 MiB or more (or `=BYTES`) whose blocks cannot be shared gets its
//!   place in the upper without them: each write copies the 64 KiB around it, reading takes each
//!   block from where it is (`engine::lazy::the_first_write_copies_the_blocks_around_it_and_no_more`).
//!   A thread brings up the rest within seconds, as do fsync, the end of the mount, and first of all
//!   whatever does more to the file than to read and write; cutting it to nothing drops the rest
//!   (`engine::lazy::whatever_does_more_than_read_and_write_completes_the_file_first`). Times but
//!   ctime stay. The mark is that of copies that are not on disk yet, so the kernel refuses the file
//!   (before Linux 6.6 it may show the lower's), and after a crash the next mount completes it before
//!   it shows it, with or without the option (`lazy`): a hole of a marked file is the lower's, and
//!   file systems without that guarantee, `volatile`, `fsync=strict`, hard links, set-id bits and
//!   capabilities make us copy at once. If there is no room to complete it then, opening it fails.
//!   Up to 64 files wait at a time. Who reads the upper itself while they do finds holes.
//! * A copy-up keeps nobody waiting but users of that file
//!   (`engine::settle::a_long_copy_up_keeps_nobody_else_waiting`).
//! * All names of a hard-linked file stay names of one file over copy-up and remount: the copy gets
//!   all of them that are visible (`engine::changes::writing_copies_up_and_keeps_number_and_names`).
//!   The kernel needs `index=on` for that, and docker's uppers do not have it. In a plain directory
//!   the names are found by one walk; one of over a million entries is not searched, and there the
//!   names that were not looked up stay with the lower file. How many names the copy did not get is
//!   kept in `overlay.nlink`, in the kernel's form
//!   (`engine::on_disk::links_that_were_not_copied_count_after_a_remount`).
//! * Removing a name writes a whiteout if, and only if, the lowers show it
//!   (`engine::changes::no_whiteout_where_nothing_is_hidden`).
//! * Renaming a directory with lower parts writes a redirect, as the kernel does with
//!   `redirect_dir=on`; with `redirect_dir=off` it fails with `EXDEV`. With `redirect_dir=copy` the
//!   directory is made one of the upper alone first: all in it is copied up and each directory
//!   marked opaque, which nobody sees, and then one rename moves it. A failure changes nothing but
//!   the room that the copies take; the directories' numbers (not the files') are others after the
//!   next mount (`engine::on_disk::copying_renames_move_directories_where_redirects_are_off`,
//!   `engine::on_disk::a_copying_rename_that_fails_changes_nothing`,
//!   `engine::on_disk::every_choice_of_redirects`).
//! * A change of attributes alone copies no data with `metacopy=on`: the default for containers of
//!   our own store, not in the drop-in form, because the kernel answers `EPERM` for such files
//!   unless it is mounted with `metacopy=on` too. They are read whatever the option says
//!   (`engine::metacopy`). A dockerd that is to start such a container needs
//!   `/sys/module/overlay/parameters/metacopy`, or the container mounted with `metacopy=off`.
//! * A descriptor opened before a copy-up reads what is written after it. The kernel's keeps
//!   reading the lower file.
//! * `mknod` of a character device 0:0 fails with `EPERM`; `RENAME_WHITEOUT` with `EINVAL`.
//!
//! * A directory that was removed while somebody held it can still be looked at and changed: mode,
//!   owner, times, attributes. Of one of the lowers alone a copy without a name is made then, where
//!   the kernel says `ENOTDIR` (differential: "a removed directory of the lowers can be changed").
//! * A program that runs is not cut, by `O_RDONLY|O_TRUNC` neither: the kernel asks for that only
//!   after the open, so the daemon looks whether a process it can see runs the file
//!   (`mount::a_program_that_runs_is_not_cut`).
//! * What is written through a map takes no set-id bits and capabilities away; an empty capability
//!   stays (differential cases of these names).
//! * Attributes in no namespace give `EOPNOTSUPP`, a namespace alone `EINVAL`. `user.*` names that a
//!   layer holds for what is neither file nor directory are not listed
//!   (`engine::xattrs::user_names_of_what_cannot_have_any_are_not_listed`).
//! * An access ACL that is set by somebody outside of the file's group takes setgid away
//!   (differential case). The work directory's ACL and setgid bit reach no file
//!   (`engine::staging`).
//!
//! The differential test (`tests/differential`) compares all of this with the kernel, and its
//! `allow.rs` names what may differ.
//!
//! # What the layers stand on
//! Tests are in `tests/nested.rs`.
//! * Where the mounter may (root, also of a user namespace), layers are read through private copies
//!   of their mounts, as in the kernel: what is mounted inside a layer, this view itself for one, is
//!   not seen, and what it covers is. The copies of lowers are read-only and keep access times. An
//!   ordinary user cannot do that: there a directory of a lower on which something is mounted is an
//!   empty one, and one of the upper gives `EXDEV`. Nobody steps into a mount.
//! * A lower that is, or lies in, the upper or work directory is refused, as by the kernel. An upper
//!   or work directory inside a lower is not listed there and gives `ELOOP`; the kernel lists it.
//!   Lowers that overlap each other, which the kernel refuses, are taken, as by fuse-overlayfs.
//! * Upper and work must lie in one mount, on a file system with `RENAME_EXCHANGE` and extended
//!   attributes; else the mount is refused with the reason. Where no character device 0:0 can be
//!   made, as on another view or the kernel's overlayfs, whiteouts are empty files with
//!   `overlay.whiteout` in directories with `overlay.opaque=x`. The kernel reads that form in lowers
//!   only. The marks of an inner view lie escaped on the outer one's disk (`overlay.overlay.*`).
//! * The kernel's overlayfs takes a view as a lower, and refuses it as an upper with `EINVAL` ("upper
//!   fs missing required features") as it refuses another overlayfs: neither does `RENAME_WHITEOUT`.
//!
//! # Numbers
//! `st_ino` is derived from the layer's index or from the real file, stays over copy-up, rename
//! and remount, is unique over all devices, and is what listings say (`engine::numbers`). There are
//! no numbers of 32 bits: `xino=off` has no effect. The link count of a merged directory is 1.
//!
//! A copied-up file names its lower file in `overlay.origin` as the kernel's do, and its directory
//! is marked `overlay.impure`: so the kernel shows our uppers under the lower files' numbers
//! (`engine::on_disk::copies_name_their_origin_as_the_kernel_does`). Of hard-linked files it does so
//! for those in its index alone, and we write none. Its records are read in turn
//! (`engine::on_disk::the_kernels_origin_keeps_numbers`): by comparing the handle of the lower file
//! of that name, or by opening the handle, which takes `CAP_DAC_READ_SEARCH` as in the kernel.
//! Besides, a copy remembers its number in `overlay.stratafs.origin`, which the kernel hides as it
//! hides all of the prefix: a handle does not lead to a file of a store's layer that was renamed
//! since, and an ordinary user cannot open one.
//!
//! Hard links that the kernel's index (`work/index`) knows are one file from every name, whether
//! the upper holds that name or not, with the link count of `overlay.nlink`, which we keep up
//! (`engine::on_disk::hard_links_of_a_kernels_index_are_one_file_from_every_name`). The differential
//! test lets each side go on with the other's upper (`with_uppers_exchanged_index` and the others).
//!
//! # Lower directories that are edited while they are mounted
//! The kernel calls that undefined and mostly shows it. Here plain directories (`lowerdir=`) are
//! watched from the moment at which their names are read, and the kernel's caches are told to let go
//! what changed: content, attributes, new, removed, replaced and moved names, whiteouts and opaque
//! marks in any layer (`engine::lower_changes`, `tests/lower_changes.rs`). So what is cached stays
//! so for ever, and an edit is seen within the time of a few requests.
//! * What was changed through the view is not affected by an edit of what lies below it. A whiteout
//!   hides also what somebody puts under its name later (`engine::lower_changes::the_upper_has_the_last_word`).
//! * A replaced file has another inode number. Who has the old one open goes on reading it
//!   (`engine::lower_changes::a_file_replaced_by_rename_is_another_one_and_who_has_it_open_reads_on`).
//!   A directory that is in use keeps its number when its topmost part comes or goes.
//! * Where watches run out (`fs.inotify.max_user_watches`, of which one view takes a quarter and
//!   65,536 at the most), names and attributes in further directories are trusted for a second and
//!   looked at again; content is read anew when a file is opened
//!   (`engine::lower_changes::directories_without_a_watch_are_looked_at_when_asked_for`).
//! * Not seen are: writes through a shared map, writes through a hard link whose directory nobody
//!   has read, changes that another machine makes to a network file system, and a
//!   redirect's new target where there was none. The data of a metacopy file is seen at the next open
//!   where the upper holds the metadata, and not at all where a lower does.
//! * `lower_changes=timeout` trusts names and attributes for `timeout=` seconds (1) and never reads
//!   a directory twice: edits of content and attributes are seen, new names are not. `ignore` sees
//!   nothing; the kernel then need not even open files of a mount without an upper. Layers of a store
//!   are immutable.
//!
//! # The private view of an ordinary user
//! A mount without `allow_other` can only be entered by its mounter. He sees the recorded owner,
//! mode and device number of each file and may act as root would: what his disk cannot hold is
//! recorded in `user.containers.override_stat`. A symlink, fifo or socket that must carry such a
//! record, and any device, is a regular file on disk that stands in for it. Attributes of the
//! `security` and `trusted` namespaces are kept under `user.overlay.stratafs.xattr.`; `trusted`
//! ones are not shown, because the kernel hides them from him. With `--allow-other` the kernel
//! enforces what is recorded.
//!
//! In a user namespace (`unshare -Urm`) an owner that the namespace does not know is shown as the
//! mounter's own: the kernel would let nobody write such a file. The record stays
//! (`engine::changes::owners_that_a_namespace_does_not_know_are_shown_as_the_mounters`).
//!
//! # The drop-in form and its options
//! Every option of fuse-overlayfs 1.x and 2.0 is taken; unknown ones are refused by name. What is
//! accepted and has no effect is listed, with the reason, in
//! [`WITHOUT_EFFECT`](crate::cli::mount_options::WITHOUT_EFFECT). Tests are in
//! `tests/mount_options.rs`.
//! * `uidmapping=` and `gidmapping=` show the layers' ids shifted and store callers' ids shifted
//!   back; what no range names becomes 65534 in both directions, as in fuse-overlayfs. Ids inside
//!   POSIX ACLs and file capabilities are not shifted, as there. `squash_to_*` changes only what is
//!   shown; a change of owner that the disk refuses is no error then.
//! * `xattr_permissions=2` keeps owners and modes in `user.containers.override_stat` and `security.*`
//!   attributes under `user.containers.override_`, `=1` the former in
//!   `security.fuseoverlayfs.override_stat`. On disk modes get 0755 added. Files whose disk says the
//!   same get no record. Symlinks, fifos and sockets of other owners, and devices, are regular files
//!   whose record names the type. Records in lower layers count only with this option or in a
//!   private mount: else who can write a layer could show set-id files of root.
//! * `volatile` (and `fsync=0`) leaves `work/work/incompat/volatile/dirty` as the kernel does, and no
//!   mount, the kernel's included, is made over it. The kernel never takes it away; here a clean
//!   unmount writes everything out and removes it.
//! * `allow_root` admits root and the mounter; it does nothing beside `allow_other`. `noacl` refuses
//!   ACL attributes, `noxattrs` all; default ACLs of layers still shape new files.
//! * `context=` and the like go to SELinux where it is active and root mounts; else they have no
//!   effect.
//! * `redirect_dir=off` and `copy` follow redirects, as the kernel does by default; `nofollow` does
//!   not. The default is `on` where the marks are `trusted.*` and the upper is no layer of a store,
//!   else `off`.
//! * Colons too many at the ends of `lowerdir=` mean nothing; `::` begins data-only layers (in
//!   fuse-overlayfs it is one colon). `\\:` is a colon, not a backslash and a separator.
//! * `.wh.NAME` is an ordinary name, except where the program is called `fuse-overlayfs`, where a
//!   layer belongs to containers/storage (which leaves that form to its mount program), and with
//!   `FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT` in the environment. There it is a whiteout, and such names
//!   cannot be made (`EINVAL`). In the upper such marks are replaced by the kernel's when their
//!   directory is read; with the variable set it is the other way round.
//! * Called `fuse-overlayfs`, merged directories count their links as ordinary ones do, and every
//!   failure ends with status 1. Called `mount.*` it is 32, or 1 for wrong usage.
//! * An ordinary user's mount is a private one (above) rather than one with `default_permissions`:
//!   he may do more in it than with fuse-overlayfs. The modes of his own files are on disk as he set
//!   them, as far as the daemon can read the file.
//!
//! # Passthrough
//! Where root mounts (outside of user namespaces) the kernel reads and writes files of the upper by
//! itself, and in read-only views files of the layers; `passthrough=off` turns it off. `auto`, the
//! default, leaves read-only views of store layers without it, unless most of them is in files of
//! 8 MiB and more: opens without a request are worth more there, and both together cannot be.
//! Nobody sees a difference (`tests/passthrough.rs`), but:
//! * A lower file in a read-write view is never passed through; one that is open when it is copied
//!   up, and all further opens of it until the last is closed, go by requests.
//! * A file with set-id bits is not passed through when it is opened. Set while it is open, they
//!   and capabilities go at the next write of who may not keep them, by a request of the kernel's.
//! * The attributes of a file that was opened for reading and writing are asked for each time: a
//!   mapping may change them unseen.
//! * `O_DIRECT` has the alignment rules of the upper's file system then, as in the kernel's
//!   overlayfs.
//!
//! # What FUSE itself cannot do here
//! A chown(2) that changes nothing reaches the daemon as a request that sets nothing, like what
//! clears set-id bits before a copy or an allocation. Of a file that its caller does not own it is
//! refused with `EPERM` while nobody has the file open for writing, and else if `/proc` shows that
//! the caller is in that call (differential: "who may write a set-id file does not clear it by a
//! chown of nothing"). A daemon that may not look there (an ordinary user's) clears the bits of a
//! file that somebody is writing, as a write would.
//!
//! `O_TMPFILE` gives `EOPNOTSUPP` (the crate has no such request), `fallocate` knows allocation,
//! holes and zeros but not `COLLAPSE_RANGE` and `INSERT_RANGE`, `FICLONE` gives `EOPNOTSUPP` on every
//! file system (`copy_file_range` shares blocks where the upper can), and syncfs(2) of the mount does
//! not reach the daemon: fsync(2) does, and so does unmounting.
//!
//! In a private mount the kernel lets only the owner that is shown set an ACL: of a file that is
//! recorded as another's, `EPERM`.
