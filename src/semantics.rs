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
//!   `O_RDONLY` (`engine::changes::truncating_opens_copy_up_even_when_read_only`). No handle on a lower
//!   serves a write (`nested::nothing_can_be_written_through_the_handles_of_a_lower`), and the
//!   differential test compares the lowers after every case, to the byte and the nanosecond.
//! * Copy-up keeps content, holes, times, mode, owner and extended attributes of every type of
//!   file, and its parent's times; a failure at any step leaves the old or the new state
//!   (`engine::faults`). That the directory has another ctime and
//!   size then, the kernel is told within a tenth of a second
//!   (`requests::a_directory_is_not_asked_for_with_each_copy_in_it`). A copy of one name that is made
//!   because its attributes change appears with the new ones
//!   (`engine::faults::a_copy_made_for_new_attributes_appears_with_them`). With
//!   `fsync=strict`, and on file systems other than ext4, xfs and btrfs, data is synced before the
//!   copy gets its name, as in the kernel. With `fsync=auto`, the default,
//!   a mount puts it in place first and writes it out within seconds: after a crash each block of
//!   the copy is the lower's or what was written, and what was synced stays (`engine::settle`). For
//!   that time there is a note in `work/work/incompat` for which the kernel's overlayfs refuses to
//!   mount the upper, after a crash until we have mounted it again. What cannot be completed then
//!   (its lower file is gone) is refused (`engine::settle::what_cannot_be_completed_is_refused_and_stays_noted`).
//!   `volatile` syncs nothing.
//! * With `lazy_copy_up` a file of 4 MiB or more (or `=BYTES`) whose blocks cannot be shared gets its
//!   place in the upper without them: each write copies the 64 KiB around it, reading takes each
//!   block from where it is (`engine::lazy::the_first_write_copies_the_blocks_around_it_and_no_more`).
//!   A thread brings up the rest within seconds, as do fsync, the end of the mount, and first of all
//!   whatever does more to the file than to read and write; cutting it to nothing drops the rest
//!   (`engine::lazy::whatever_does_more_than_read_and_write_completes_the_file_first`). Times but
//!   ctime stay; that of a copy moves once more when it is complete.
//! * An incomplete file is refused twice: there is the note for which the kernel's overlayfs does not
//!   mount the upper; and as the note lies in the work directory, the file itself bears a metacopy
//!   mark of a version that the kernel does not know (`EIO`; before Linux 6.6 it may show the
//!   lower's), with another work directory and as a lower layer too. Both go after its data came to the disk
//!   (`lazy::a_file_that_was_incomplete_when_the_daemon_was_killed_is_completed_by_any_mount`). We
//!   refuse it in a lower layer (`EIO`) and at import
//!   (`engine::lazy::crashes::an_incomplete_file_is_refused_in_a_lower_layer`). The next mount of the upper
//!   completes it before it shows it, with or without the option: a hole of a marked file is the
//!   lower's. File systems without that guarantee, `volatile`, `fsync=strict`, several names in the
//!   view, set-id bits and capabilities make us copy at once. If there is no room to complete it then, opening it
//!   fails. Up to 64 files wait at a time. Who reads the upper itself while they do finds holes.
//! * A copy-up keeps nobody waiting but users of that file
//!   (`engine::settle::a_long_copy_up_keeps_nobody_else_waiting`).
//! * All names of a hard-linked file stay names of one file over copy-up and remount: the copy gets
//!   all of them that are visible (`engine::changes::writing_copies_up_and_keeps_number_and_names`),
//!   also in directories that were moved
//!   (`engine::numbers::a_copy_gets_its_names_in_directories_that_were_moved`).
//!   The kernel needs `index=on` for that, and docker's uppers do not have it. In a plain directory
//!   the names are found by one walk; one of over a million entries is not searched, and there the
//!   names that were not looked up stay with the lower file. How many names the copy did not get is
//!   kept in `overlay.nlink`, in the kernel's form
//!   (`engine::on_disk::links_that_were_not_copied_count_after_a_remount`).
//! * Removing a name writes a whiteout if, and only if, the lowers show it
//!   (`engine::changes::no_whiteout_where_nothing_is_hidden`,
//!   `engine::changes::deleted_names_stay_gone`). A directory of whiteouts alone is empty, can be
//!   removed and replaced (`engine::changes::a_directory_replaces_one_that_only_holds_whiteouts`).
//! * A read-only mount of an image that holds no extended attribute says `EOPNOTSUPP` to whoever asks
//!   for them, which spares it further requests; the kernel says that there are none
//!   (`differential::as_root_in_a_container`).
//! * A directory called `.wh.NAME` in the upper hides `NAME` where such names count, and is not seen
//!   (`mount_options::a_directory_with_the_name_of_a_mark_hides_and_hinders_nothing_else`). Where
//!   this mount's own whiteouts are such names it is one, and goes with what is in it when `NAME` is
//!   made again (`mount_options::a_directory_with_the_name_of_a_mark_goes_with_the_whiteout`). A name
//!   that is a mark and hides nothing is not seen either
//!   (`mount_options::a_name_that_is_only_a_mark_is_in_no_listing`).
//! * `RENAME_NOREPLACE` and `RENAME_EXCHANGE` work on files and directories of any layer
//!   (`engine::changes::exchange_of_lower_files_and_directories`), also over whiteouts
//!   (`engine::changes::renames_over_whiteouts_succeed`).
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
//!   reading the lower file
//!   (`engine::changes::a_reader_from_before_the_copy_up_sees_what_is_written_later`).
//! * What is written to a file is seen at once by who reads or maps it, also where the data does not
//!   go through the kernel's pages: a new file that is open for writing alone, in mounts without
//!   passthrough and writeback (`mount::what_is_written_to_a_new_file_is_seen_by_who_reads_it_meanwhile`,
//!   `mount::a_new_file_that_gets_a_capability_loses_it_to_the_next_write`). A page that a mapping
//!   reads for the first time while it is being so written shows the new data a moment later
//!   (`mount::who_watches_a_mapping_of_a_new_file_sees_the_last_write`).
//! * What is open goes on working when it is removed, renamed or replaced
//!   (`engine::changes::handles_survive_unlink_rename_and_rmdir`), and a removed file of a lower can
//!   still be changed (`engine::changes::a_removed_lower_file_that_is_open_can_still_change`).
//! * New files follow umask, default ACLs and setgid directories as on any file system
//!   (`engine::changes::umask_and_setgid_directories_are_honoured`), in private mounts by the bit that
//!   is shown (`engine::private_view::new_directories_get_the_setgid_bit_that_is_shown`); writes, truncation and chown take
//!   set-id bits away (`mount::set_id_bits_are_cleared_where_the_kernel_leaves_it_to_us`), a setgid bit
//!   without execution by the group only if the caller is not in it
//!   (`mount::a_setgid_bit_that_is_no_right_goes_with_a_change_by_strangers`).
//! * The overlay's own attributes are hidden, and a user's of that prefix are kept escaped
//!   (`engine::changes::overlay_attributes_are_hidden_and_users_own_are_escaped`).
//! * Names have up to 255 bytes of any kind, in the upper as in the work directory
//!   (`engine::changes::names_of_255_bytes_are_usable_everywhere`). Those that begin with `.wh.` are
//!   ordinary (`mount_options::names_of_marks_are_ordinary_unless_told`).
//! * A listing that goes on from a position shows each name that stays once, whatever comes and goes
//!   meanwhile (`engine::merge::listings_go_on_from_any_cookie_while_names_change`,
//!   `engine::objects::a_listing_shows_a_file_once_though_it_is_copied_up_meanwhile`). It ends with
//!   what was there when the latest walk of that directory began
//!   (`engine::merge::a_walk_ends_though_every_entry_is_renamed_or_replaced_as_it_is_read`).
//! * With `default_permissions` the kernel checks what each user may, by what is shown
//!   (`differential::as_others_in_a_mount_of_root`). Errors come in the order of the kernel's
//!   (`engine::changes::errors_are_those_of_posix`).
//! * Reading changes no access time of a lower, where the mounter may keep it from doing so: root,
//!   and the owner of a file (`nested::reading_leaves_the_access_times_of_lowers`,
//!   `engine::access_times::reading_leaves_the_times_of_a_lower`,
//!   `passthrough::a_read_only_view_of_a_store_changes_no_access_times`). In the upper it does as the
//!   upper's own mount has it, unless ours says `noatime` or `nodiratime`
//!   (`mount_options::noatime_leaves_times_of_access_in_the_upper`); what the kernel reads from its
//!   caches is not noted, so `strictatime` is not to be had.
//! * `-o remount` changes the flags of mount(2) (`ro`, `nosuid`, `noexec` and the like), and nothing
//!   else, as the kernel's (`mount_options::a_remount_changes_flags_and_nothing_else`). So `noatime`
//!   by a remount is a flag of the mount alone and does not reach the upper: what is read through
//!   the view changes access times there as before
//!   (`mount_options::a_remount_changes_how_access_times_are_kept`).
//! * `mknod` of a character device 0:0 fails with `EPERM`; `RENAME_WHITEOUT` with `EINVAL`.
//!
//! * A directory that was removed while somebody held it can still be looked at and changed: mode,
//!   owner, times, attributes. Of one of the lowers alone a copy without a name is made then, where
//!   the kernel says `ENOTDIR` (differential: "a removed directory of the lowers can be changed").
//! * A program that runs is not cut, by `O_RDONLY|O_TRUNC` neither: the kernel asks for that only
//!   after the open, so the daemon looks whether a process it can see runs the file
//!   (`mount::a_program_that_runs_is_not_cut`).
//! * What is written through a map takes no set-id bits and capabilities away; an empty capability
//!   stays (differential: "what is written through a map takes no set-id bits and capabilities away",
//!   "a write leaves an empty capability").
//! * Attributes in no namespace give `EOPNOTSUPP`, a namespace alone `EINVAL`. `user.*` names that a
//!   layer holds for what is neither file nor directory are not listed
//!   (`engine::xattrs::user_names_of_what_cannot_have_any_are_not_listed`; differential: "odd attributes
//!   of what is neither file nor directory").
//! * An access ACL that takes a file from its owner leaves it to a private mount, which records the mode
//!   (`mount_options::an_acl_that_closes_a_file_to_its_owner_leaves_it_to_a_private_mount`).
//! * An access ACL that is set by somebody outside of the file's group takes setgid away
//!   (differential case). The work directory's ACL and setgid bit reach no file
//!   (`engine::staging`).
//!
//! The differential test (`tests/differential`) compares all of this with the kernel, and its
//! `allow.rs` names what may differ. Every set of mount options that must change nothing, of plain
//! directories and of containers, goes through it (`switches.rs`).
//!
//! # Import of directories
//! `import --lowerdir` makes layers that show what the kernel shows of the directories, but: sockets
//! are left out, as no archive can hold them, and hide what they hid
//! (`import::lowerdir::a_socket_is_left_out_and_goes_on_hiding_what_it_hides`); names that begin with
//! `.wh.` are marks; and attributes of either name space of the overlay are kept only where they are
//! no marks (`import::lowerdir::attributes_that_are_no_marks_are_kept_whatever_they_are_called`).
//!
//! # Images of containers
//! Tests are in `tests/commit.rs`; random ones in `differential::as_root_in_a_container`.
//! * `commit` makes a layer that shows what the container's mount showed
//!   (`an_image_shows_what_the_container_showed`): recorded owners are the owners, copies without
//!   data have it, a moved directory is an opaque one with all its content. Docker's `commit` leaves
//!   out attributes but capabilities and fractions of a second; here they are kept.
//! * The places that a container has of its own (`/etc/hosts` and the like) are not in the image,
//!   and the root directory is the image's, unless they were changed
//!   (`the_root_directory_is_the_images_unless_it_was_changed`). Sockets and names that begin with
//!   `.wh.` are left out with a warning (`what_no_layer_can_hold_is_told`).
//! * Marks count in the name space in which the container's mounts write theirs; what else looks like
//!   a mark is an attribute that somebody set in the container, which may hold an overlay itself
//!   (`marks_that_users_set_in_the_container_hide_nothing`). Owners are those that are recorded,
//!   whoever recorded them (`recorded_owners_are_the_images_owners`); but in a container of root's not
//!   those in `user.*`, which anybody in it may have set (`a_forged_record_gives_nobody_rights`).
//! * The upper is looked at before and after. If anything is not as it was (the time of change tells,
//!   which nobody can set) it is read anew, up to three times; then there is no image
//!   (`a_container_that_is_written_to_gives_no_image`, `only_what_was_written_counts_as_a_change`).
//!   Docker stops the container's processes instead, which a file system cannot.
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
//!   only. In a directory without that mark such a file is a file here, listed and found; the kernel
//!   lists its name and does not find it. The marks of an inner view lie escaped on the outer one's disk (`overlay.overlay.*`).
//! * The kernel's overlayfs takes a view as a lower, and refuses it as an upper with `EINVAL` ("upper
//!   fs missing required features") as it refuses another overlayfs: neither does `RENAME_WHITEOUT`.
//!
//! # Numbers
//! `st_ino` is derived from the layer's index or from the real file, stays over copy-up, rename
//! and remount, is unique over all devices, and is what listings say (`engine::numbers`,
//! `differential::as_root_over_remounts`). The link count of a merged directory is 1.
//! Where the marks are `user.*`, a symlink, fifo, socket or device can bear none: once it is copied
//! up or renamed, it has another number from the next mount on, and of its links those are counted
//! that the view shows. So has one whose owner changes where owners are recorded: a regular file takes
//! its place on disk then.
//!
//! `xino=off` (`noxino`) shows numbers below 2^32 instead, for programs that cannot take longer ones
//! (the kernel's `xino=off` gives up other properties: there numbers of several devices may meet). All
//! that is said of numbers holds for them, but of two that meet the one that comes second gets
//! another, which may be the other one after a remount; and a number stays taken for as long as the
//! mount lives, some 20 bytes each
//! (`short_numbers::short_inode_numbers_are_what_everybody_sees`,
//! `short_numbers::short_inode_numbers_over_several_file_systems_do_not_meet`).
//!
//! A copied-up file names its lower file in `overlay.origin` as the kernel's do, and its directory
//! is marked `overlay.impure`: so the kernel shows our uppers under the lower files' numbers
//! (`engine::on_disk::copies_name_their_origin_as_the_kernel_does`); in the private view of an
//! ordinary user only where the kernel had that upper before
//! (`engine::on_disk::a_private_view_writes_one_mark_into_a_copy`). Of hard-linked files it does so
//! for those in its index alone, and we write none. Its records are read in turn
//! (`engine::on_disk::the_kernels_origin_keeps_numbers`): by comparing the handle of the lower file
//! of that name, or by opening the handle, which takes `CAP_DAC_READ_SEARCH` as in the kernel.
//! Besides, a copy remembers its number: a handle does not lead to a file of a store's layer that was
//! renamed since, and an ordinary user cannot open one. The number is kept behind the kernel's record
//! in that attribute, of which the kernel reads its own part alone
//! (`engine::on_disk::a_copy_bears_one_record_which_fits_into_its_inode`,
//! `differential::as_root_over_remounts`), else in `overlay.stratafs.origin`, which the kernel hides
//! as it hides all of the prefix; a copy that has it from an earlier version keeps its number
//! (`engine::on_disk::a_record_apart_from_the_kernels_is_read_too`).
//!
//! Hard links that the kernel's index (`work/index`) knows are one file from every name, whether
//! the upper holds that name or not, with the link count of `overlay.nlink`, which we keep up
//! (`engine::on_disk::hard_links_of_a_kernels_index_are_one_file_from_every_name`). The differential
//! test lets each side go on with the other's upper (`with_uppers_exchanged_index` and the others).
//!
//! A name of a lower file that goes before the file is copied up is counted off its links, also
//! after a remount. The kernel does so with `index=on`, by copying such a file up first, which puts
//! its data into an image made of the upper. Here the upper's root is marked
//! (`overlay.stratafs.unlinked`), and mounts of an upper with that mark count the names that the
//! lowers show and the view does not, which in a plain directory takes one walk
//! (`engine::numbers::a_name_that_goes_is_counted_off_over_remounts` and those behind it).
//!
//! # Lower directories that are edited while they are mounted
//! The kernel calls that undefined and mostly shows it. Here plain directories (`lowerdir=`) are
//! watched from the moment at which they are looked up
//! (`engine::lower_changes::a_directory_is_watched_before_anybody_reads_it`), and the kernel's
//! caches are told to let go what changed: content, attributes, new, removed, replaced and moved names, whiteouts and opaque
//! marks in any layer (`engine::lower_changes`, `tests/lower_changes.rs`). So what is cached stays
//! so for ever, and an edit is seen within the time of a few requests.
//! * What was changed through the view is not affected by an edit of what lies below it. A whiteout
//!   hides also what somebody puts under its name later (`engine::lower_changes::the_upper_has_the_last_word`).
//! * A replaced file has another inode number. Who has the old one open goes on reading it
//!   (`engine::lower_changes::a_file_replaced_by_rename_is_another_one_and_who_has_it_open_reads_on`).
//!   A directory that is in use keeps its number when its topmost part comes or goes.
//! * Editors, `sed -i`, `cp`, `mv` of directories and `rm -r` are all seen, open and mapped files
//!   included, also with passthrough
//!   (`lower_changes::editors_and_tools_change_lowers_in_their_own_ways`,
//!   `lower_changes::a_mapped_lower_file_that_is_edited_in_place_shows_it`,
//!   `lower_changes::edits_are_seen_where_root_passes_files_through`).
//! * A number that the disk gives again never makes one file of two
//!   (`lower_changes::files_that_came_by_the_numbers_of_directories_in_use_are_told_apart`,
//!   `lower_changes::a_file_that_came_by_the_number_of_one_that_went_unnoticed_is_found`).
//! * Where watches run out (`fs.inotify.max_user_watches`, of which one view takes a quarter and
//!   65,536 at the most; `max_watches=N` says it otherwise), names and attributes in further directories are trusted for a second and
//!   looked at again; content is read anew when a file is opened
//!   (`engine::lower_changes::directories_without_a_watch_are_looked_at_when_asked_for`,
//!   `lower_changes::where_watches_run_out_edits_are_seen_after_a_second`).
//! * Not seen are: reading by others, as a time of access; writes through a shared map, writes through a hard link whose directory nobody
//!   has read, changes that another machine makes to a network file system, and a
//!   redirect's new target where there was none. The data of a metacopy file is seen at the next open
//!   where the upper holds the metadata, and not at all where a lower does.
//! * `lower_changes=timeout` trusts names and attributes for `timeout=` seconds (1) and never reads
//!   a directory twice: edits of content and attributes are seen, new names are not. `ignore` sees
//!   nothing; the kernel then need not even open files of a mount without an upper. Layers of a store
//!   are immutable.
//!
//! # Lower directories that are edited between two mounts
//! Each mount reads what is there. With `index_cache` it compares a snapshot with it instead, beside
//! its work, and asks that from then on: every attribute of every inode is compared, names by the times
//! of their directories, targets of symlinks and extended attributes by those of their inodes; a
//! snapshot is not kept of what was changed less than 20 ms before (2 s where times are whole seconds),
//! of trees that this user cannot read as a whole, that hold mounts or more than 524,288 names, that
//! never rest, nor on others than ext2 to ext4, xfs, btrfs, tmpfs, f2fs, bcachefs and zfs: overlayfs
//! shows new names without a new time, images as squashfs have the times of their maker, and network
//! file systems those of another machine (`index_cache::a_known_directory_shows_what_it_holds`,
//! `index_cache::what_was_edited_between_mounts_is_shown`, `snapshot::tests::every_edit_is_found`).
//! Edits during the mount are not seen (`lower_changes=ignore`). Content is never kept. What this
//! cannot notice is a change that leaves no trace in any time: with the clock set back, or below the
//! file system. `index_cache=immutable` compares nothing but the root directory, and each file when
//! it is opened (`index_cache::by_word_a_changed_file_is_refused_once`).
//!
//! # The private view of an ordinary user
//! A mount without `allow_other` can only be entered by its mounter. He sees the recorded owner,
//! mode and device number of each file and may act as root would: what his disk cannot hold is
//! recorded in `user.containers.override_stat`. A symlink, fifo or socket that must carry such a
//! record, and any device, is a regular file on disk that stands in for it. Attributes of the
//! `security` and `trusted` namespaces are kept under `user.overlay.stratafs.xattr.`; `trusted`
//! ones are not shown, because the kernel hides them from him. With `--allow-other` the kernel
//! enforces what is recorded. A recorded setgid bit gives a directory's group to new files, and a
//! recorded mode and an access ACL go along with each other
//! (`engine::private_view::a_recorded_setgid_directory_gives_its_group_to_new_files`,
//! `engine::private_view::an_access_acl_and_a_recorded_mode_say_the_same`).
//!
//! In a user namespace (`unshare -Urm`) an owner that the namespace does not know is shown as the
//! mounter's own: the kernel would let nobody write such a file. The record stays
//! (`engine::private_view::owners_that_a_namespace_does_not_know_are_shown_as_the_mounters`).
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
//!   up, and all further opens of it until the last is closed, go by requests. So do those of who
//!   opens to append, for the kernel would keep appending for him when fcntl(2) has taken that away
//!   (`differential::cases_that_once_failed`); what it has of the file in memory stays
//!   (`passthrough::who_appends_to_a_large_lower_file_leaves_its_pages_in_memory`).
//! * A file with set-id bits is not passed through when it is opened. Set while it is open, they
//!   and capabilities go at the next write of who may not keep them, by a request of the kernel's.
//! * The attributes of a file that was opened for reading and writing are asked for each time: a
//!   mapping may change them unseen.
//! * `O_DIRECT` has the alignment rules of the upper's file system then, as in the kernel's
//!   overlayfs.
//!
//! # Writes that are held back
//! With `writeback` (fuse-overlayfs spells it `writeback=1`) the kernel keeps what is written and
//! sends it at the close, at fsync, or within half a minute, many small writes as one request
//! (`requests::writes_that_are_held_back_are_one_request`). It takes the place of passthrough; both
//! asked for by name are refused. Tests are in `tests/writeback.rs`. Nobody sees a difference in the
//! mount (`differential::as_root_with_writeback`, and the sets of `switches.rs` that have it), but:
//! * A full disk, a quota and a broken disk are told at the close or by fsync, not by the write
//!   (`writeback::a_full_disk_is_told_at_the_close_and_by_fsync`); at the close a quota is `EIO`. Until
//!   the kernel needs the memory, the mount shows what could not be written.
//! * Who reads the upper itself misses what is still held back of files that are open
//!   (`writeback::what_was_written_is_in_the_upper_when_it_is_closed`), and what others write there,
//!   which is wrong anyway, is shown with the old length. A daemon that is killed loses what it was
//!   not sent; one that is told to end asks for all of it, twice
//!   (`writeback::nothing_is_lost_when_the_daemon_is_told_to_end`).
//! * syncfs(2) and sync(2) make the kernel send what it holds, and need not wait for it
//!   (`writeback::sync_brings_what_is_held_back_into_the_upper`); fsync(2) waits.
//! * The kernel keeps length, time of the last write and time of change of a regular file by itself
//!   for as long as it has the inode. The disk gets the second to the nanosecond, the third cannot be
//!   set: after a remount it is that of the disk, some milliseconds later.
//! * Nobody may edit the lowers while they are mounted so: the kernel cannot be told that a file has
//!   another length. `lower_changes=ignore` goes without saying, and the others are refused beside
//!   it (`writeback::who_asks_for_it_says_that_nobody_edits_the_lowers`).
//! * A file of somebody else that the mounter may write but not read cannot be opened for writing:
//!   the kernel reads what is around a write to part of a page.
//! * `SEEK_DATA` and `SEEK_HOLE` in a file that is open for writing make the kernel write back all
//!   of it first, and read it anew
//!   (`writeback::holes_and_data_are_found_while_they_are_held_back`).
//!
//! # What FUSE itself cannot do here
//! A chown(2) that changes nothing reaches the daemon as a request that sets nothing, like what
//! clears set-id bits before a copy or an allocation. Of a file that its caller does not own it is
//! refused with `EPERM` while nobody has the file open for writing, and else if `/proc` shows that
//! the caller is in that call (differential: "who may write a set-id file does not clear it by a
//! chown of nothing"). A daemon that may not look there (an ordinary user's) clears the bits of a
//! file that somebody is writing, as a write would.
//!
//! `O_TMPFILE` gives `EOPNOTSUPP`: the kernel asks by `FUSE_TMPFILE`, which fuser 0.18 does not know
//! and answers with `ENOSYS`, so that the kernel never asks again. Programs then make a file with a
//! name and remove it, as open(2) tells them to
//! (`statements::nameless_files_are_refused_and_what_needs_them_has_another_way`). `fallocate` knows allocation,
//! holes and zeros but not `COLLAPSE_RANGE` and `INSERT_RANGE`, `FICLONE` gives `EOPNOTSUPP` on every
//! file system (`copy_file_range` shares blocks where the upper can;
//! `statements::holes_are_seen_made_and_kept_and_blocks_are_not_shared`), and syncfs(2) of the mount does
//! not reach the daemon: fsync(2) does, and so does unmounting.
//!
//! Locks of all kinds are the kernel's own, by inode, and so hold from a lower file to its copy
//! (`statements::locks_hold_from_the_lower_file_to_its_copy`). statfs(2) is the upper's
//! (`statements::the_room_that_is_told_is_the_uppers`).
//!
//! In a private mount the kernel lets only the owner that is shown set an ACL, before it asks
//! (`set_posix_acl` in fs/posix_acl.c): of a file that is recorded as another's, `EPERM`. Who takes the
//! file by chown(2) for as long can set it
//! (`statements::in_a_private_mount_acls_are_for_the_owner_that_is_shown`).
