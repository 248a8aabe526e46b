//! What each mount option of the drop-in form does, with real mounts.

#![allow(missing_docs)]

mod support;

use support::{Case, User, is_root, mounters, ordinary, skip, text};

const LAYERS: &str = "lowerdir=l,upperdir=u,workdir=w";

fn for_each_mounter(test: &str, f: impl Fn(&Case)) {
    for user in mounters(test) {
        f(&Case::new(user));
    }
}

fn root(test: &str) -> Option<Case> {
    mounters(test).into_iter().find(|u| u.uid == 0).map(Case::new)
}

/// Mounts with further options, runs a script, unmounts, and returns what the script printed.
#[track_caller]
fn with(c: &Case, options: &str, script: &str) -> String {
    c.stratafs(&["-o", &format!("{LAYERS},{options}"), "m"]).ok();
    let said = c.sh(script);
    c.stratafs(&["umount", "m"]).ok();
    said.ok().out
}

#[test]
fn mapped_ids_are_shown_shifted_and_stored_as_they_were() {
    let Some(c) = root("uidmapping") else { return };
    c.sh("echo g >l/g && chown 5:6 l/g && echo h >l/h && chown 70000:70000 l/h").ok();
    let map = ":0:100000:65536";
    // whom the map does not name is stored as nobody
    let out = with(
        &c,
        &format!(",uidmapping={map},gidmapping={map}"),
        "stat -c %u:%g m/g m/h && chmod 1777 m &&
         setpriv --reuid 100005 --regid 100006 --clear-groups sh -c 'echo x >>m/g; touch m/new' &&
         touch m/of-root && chown 100007:100008 m/new && stat -c %u:%g m/new m/of-root",
    );
    assert_eq!(out, "100005:100006\n65534:65534\n100007:100008\n165534:165534\n");
    assert_eq!(c.sh("stat -c %u:%g u/g u/new").ok().out, "5:6\n7:8\n");
}

#[test]
fn squashed_owners_are_one_and_the_disk_keeps_its_own() {
    let Some(c) = root("squash") else { return };
    c.sh("touch l/f && chown 500:600 l/f").ok();
    assert_eq!(with(&c, "squash_to_root", "stat -c %u:%g m/f").trim(), "0:0");
    let both = "squash_to_root,squash_to_uid=1000,squash_to_gid=2000";
    assert_eq!(with(&c, both, "chmod 640 m/f && stat -c %u:%g:%a m/f").trim(), "1000:2000:640");
    assert_eq!(c.sh("stat -c %u:%g u/f").ok().out.trim(), "500:600");
}

#[test]
fn an_ordinary_user_squashes_without_privilege() {
    let Ok(user) = ordinary() else { return skip("squash as a user", "no ordinary user") };
    if !mounters("squash as a user").contains(&user) {
        return;
    }
    let c = Case::new(user);
    c.sh("touch l/f").ok();
    let out = with(&c, "squash_to_root", "touch m/n && stat -c %u:%g m/f m/n");
    assert_eq!(out, "0:0\n0:0\n");
}

#[test]
fn permissions_in_attributes_are_those_of_containers_storage() {
    for_each_mounter("xattr_permissions=2", |c| {
        c.sh("mkdir l/d && echo low >l/f && chmod 600 l/f && ln -s f l/s &&
              setfattr -n user.containers.override_stat -v 0:0:0755:dir l &&
              setfattr -n user.containers.override_stat -v 33:44:4711:file l/f &&
              setfattr -n user.containers.override_stat -v 7:8:0660:block-8-0 l/d")
            .ok();
        let out = with(
            c,
            "xattr_permissions=2",
            "stat -c '%u:%g:%a %F' m/f m/d && chown 1:2 m/f && chmod 640 m/f &&
             stat -c '%u:%g:%a' m/f && getfattr -d m/f 2>&1",
        );
        assert_eq!(out, "33:44:4711 regular file\n7:8:660 directory\n1:2:640\n");
        let disk = c.sh("getfattr --only-values -n user.containers.override_stat u/f");
        assert_eq!(disk.ok().out, "1:2:0640:file");
        assert_eq!(c.sh("stat -c %u:%a u/f").ok().out, format!("{}:755\n", c.user.uid));
        assert_eq!(with(c, "xattr_permissions=2", "stat -c %u:%g:%a m/f").trim(), "1:2:640");
    });
}

#[test]
fn permissions_in_roots_attributes_are_those_of_fuse_overlayfs() {
    let Some(c) = root("xattr_permissions=1") else { return };
    c.sh("echo low >l/f").ok();
    let out =
        with(&c, "xattr_permissions=1", "chown 1:2 m/f && chmod 600 m/f && stat -c %u:%a m/f");
    assert_eq!(out.trim(), "1:600");
    let disk = c
        .sh("getfattr --only-values -n security.fuseoverlayfs.override_stat u/f && stat -c %u u/f");
    assert_eq!(disk.ok().out, "1:2:0600:file0\n");
}

#[test]
fn a_private_mount_sets_the_modes_that_its_user_can_have() {
    let Ok(user) = ordinary() else { return skip("modes", "no ordinary user") };
    if !mounters("modes").contains(&user) {
        return;
    }
    let c = Case::new(user);
    c.sh("echo low >l/f && chmod 444 l/f").ok();
    let m = c.mount();
    c.sh("chmod 406 m/f && echo more >>m/f && setfattr -n user.a -v b m/f && truncate -s 2 m/f")
        .ok();
    assert_eq!(c.sh("stat -c %a m/f u/f; cat u/f").ok().out, "406\n406\nlo");
    m.unmount();
}

#[test]
fn an_acl_that_closes_a_file_to_its_owner_leaves_it_to_a_private_mount() {
    let Ok(user) = ordinary() else { return skip("closing ACLs", "no ordinary user") };
    if !mounters("closing ACLs").contains(&user) {
        return;
    }
    let c = Case::new(user);
    if c.sh("setfacl --version").code != Some(0) {
        return skip("closing ACLs", "setfacl is not installed");
    }
    c.sh("mkdir l/d; echo f >l/f; echo g >l/g; umask 022; chmod 644 l/*; chmod 755 l/d").ok();
    let look = "ls m m/d && stat -c %a m/f m/g m/d/new && getfacl -cn m/f m/g m/d/new";
    // with a record, without one, and inherited
    let change = "chmod 0 m/f && setfacl -m u::---,m::r m/f && setfacl -m u::---,m::r m/g &&
        setfacl -d -m u::---,u:7:r m/d && touch m/d/new";
    let before = with(&c, "", &format!("{change} && {look}"));
    assert!(before.starts_with("m:\nd\nf\ng\n\nm/d:\nnew\n40\n44\n44\n"), "{before}");
    assert_eq!(with(&c, "", look), before);
}

#[test]
fn directories_have_one_link_when_asked() {
    for_each_mounter("static_nlink", |c| {
        c.sh("mkdir -p l/d/e l/d/f").ok();
        assert_eq!(with(c, "static_nlink", "stat -c %h m/d m").trim(), "1\n1");
        assert_eq!(with(c, "noatime", "stat -c %h m/d").trim(), "4");
    });
}

#[test]
fn attributes_and_acls_can_be_refused() {
    for_each_mounter("noxattrs, noacl", |c| {
        c.sh("touch l/f && setfattr -n user.a -v b l/f").ok();
        for option in ["noxattrs=1", "noxattrs"] {
            let out = with(c, option, "getfattr -d m/f; ! setfattr -n user.c -v d m/f 2>&1");
            assert!(out.contains("not supported") && !out.contains("user.a"), "{out}");
        }
        let acl = "0x0200000001000600ffffffff0400040 0ffffffff20000400ffffffff".replace(' ', "");
        let set =
            format!("! setfattr -n system.posix_acl_access -v {acl} m/f 2>&1; getfattr -d m/f");
        let out = with(c, "noacl", &set);
        assert!(out.contains("not supported") && out.contains("user.a"), "{out}");
    });
}

#[test]
fn a_volatile_upper_is_marked_until_it_is_whole() {
    for_each_mounter("volatile", |c| {
        let mark = "w/work/incompat/volatile/dirty";
        let out = with(c, "volatile", &format!("echo x >m/f; sync m/f; ls {mark}"));
        assert_eq!(out.trim(), mark);
        assert_eq!(c.sh("ls -A w/work").ok().out, "");
        c.stratafs(&["-o", &format!("{LAYERS},volatile"), "m"]).ok();
        let pid = c.daemon().unwrap();
        c.sh(&format!("kill -9 {pid}")).ok();
        c.stratafs(&["umount", "--lazy", "m"]);
        let refused = c.stratafs(&["-o", LAYERS, "m"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains("volatile"), "{refused:?}");
        c.sh("rm -r w/work/incompat").ok();
        assert_eq!(with(c, "fsync=1", "cat m/f"), "x\n");
    });
}

#[test]
fn the_kernel_refuses_what_a_volatile_mount_left() {
    let Some(c) = root("volatile under the kernel") else { return };
    c.stratafs(&["-o", &format!("{LAYERS},volatile"), "m"]).ok();
    let pid = c.daemon().unwrap();
    c.sh(&format!("kill -9 {pid}; sleep 0.1; umount -l m")).ok();
    let kernel = c.sh(&format!("mount -t overlay none -o {LAYERS} m"));
    assert_ne!(kernel.code, Some(0), "{kernel:?}");
}

#[test]
fn allow_root_lets_nobody_else_in() {
    let Some(c) = root("allow_root") else { return };
    let Ok(User { uid, gid }) = ordinary() else { return skip("allow_root", "no ordinary user") };
    c.sh("echo low >l/f").ok();
    let other = format!("setpriv --reuid {uid} --regid {gid} --clear-groups");
    let script = format!("cat m/f && ! {other} cat m/f 2>/dev/null");
    assert_eq!(with(&c, "allow_root", &script), "low\n");
    assert_eq!(with(&c, "allow_other", &format!("{other} cat m/f")), "low\n");
}

#[test]
fn redirects_are_made_and_followed_as_asked() {
    let Some(c) = root("redirect_dir") else { return };
    c.sh("mkdir -p l/d && echo low >l/d/f").ok();
    let renamed = "import os,sys\ntry: os.rename('m/d','m/e')\nexcept OSError as e: print(e.errno)";
    let rename = format!("python3 -c \"{renamed}\"");
    if c.sh("python3 -c pass").code == Some(0) {
        assert_eq!(with(&c, "redirect_dir=off", &rename).trim(), "18");
        assert_eq!(with(&c, "redirect_dir=follow", &rename).trim(), "18");
    }
    assert_eq!(with(&c, "redirect_dir=on", "mv m/d m/e && cat m/e/f"), "low\n");
    assert_eq!(with(&c, "redirect_dir=off", "cat m/e/f"), "low\n");
    assert_eq!(with(&c, "redirect_dir=nofollow", "ls -A m/e"), "");
}

#[test]
fn metacopy_copies_no_data_when_asked() {
    let Some(c) = root("metacopy") else { return };
    c.sh("head -c 100000 /dev/zero | tr '\\0' x >l/f && cp l/f l/g").ok();
    with(&c, "metacopy=on", "chmod 600 m/f");
    let copied =
        |f: &str| c.sh(&format!("getfattr -n trusted.overlay.metacopy {f}")).code != Some(0);
    assert!(!copied("u/f"));
    with(&c, "metacopy=off", "chmod 600 m/g && cmp m/f l/f");
    assert!(copied("u/g"));
}

#[test]
fn data_only_layers_give_data_and_no_names() {
    let Some(c) = root("data-only layers") else { return };
    c.sh("mkdir t d && echo data >d/x && truncate -s 5 t/f && touch d/stray &&
          setfattr -n trusted.overlay.metacopy t/f &&
          setfattr -n trusted.overlay.redirect -v /x t/f")
        .ok();
    c.stratafs(&["-o", "lowerdir=t::d", "m"]).ok();
    let out = c.sh("ls m; cat m/f");
    c.stratafs(&["umount", "m"]).ok();
    assert_eq!(out.ok().out, "f\ndata\n");
}

#[test]
fn whiteouts_are_names_where_devices_are_not_wanted() {
    for_each_mounter("FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT", |c| {
        c.sh("mkdir l/d l/e && touch l/a l/b l/d/x l/e/y && mknod u/b c 0 0").ok();
        let mount = format!("FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT=1 $STRATAFS -o {LAYERS} m");
        c.sh(&mount).ok();
        let out = c.sh(
            "ls m; rm m/a && rm -r m/d && ls -A u; echo new >m/a && mkdir m/d && ls -A u m/d &&
             mv m/e m/f; ! touch m/.wh.x 2>/dev/null; ls m",
        );
        c.stratafs(&["umount", "m"]).ok();
        let out = out.ok().out;
        assert!(out.starts_with("a\nd\ne\n.wh.a\n.wh.b\n.wh.d\n"), "{out}");
        assert!(out.contains("m/d:\n\nu:\n.wh.b\na\nd\n") && out.ends_with("a\nd\nf\n"), "{out}");
        // read back, and brought into the kernel's form, by who is called fuse-overlayfs
        c.sh(&format!("ln -s $STRATAFS fuse-overlayfs && ./fuse-overlayfs -o {LAYERS} m")).ok();
        let out = c.sh("ls m && ls -A m/d && cat m/a; ls -A u; stat -c %F u/b");
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(out.ok().out, "a\nd\nf\nnew\na\nb\nd\ne\nf\ncharacter special file\n");
    });
}

#[test]
fn a_directory_with_the_name_of_a_mark_hides_and_hinders_nothing_else() {
    for_each_mounter("directories as marks", |c| {
        c.sh("mkdir u/.wh.a u/.wh.a/in && touch l/a u/c").ok();
        c.sh("ln -s $STRATAFS fuse-overlayfs").ok();
        for _ in 0..2 {
            c.sh(&format!("./fuse-overlayfs -o {LAYERS} m")).ok();
            let out = c.sh("ls -A m; cat m/a; echo new >m/d; rm m/d; ls u/.wh.a");
            c.stratafs(&["umount", "m"]).ok();
            assert_eq!((&out.out[..], out.code), ("c\nin\n", Some(0)), "{out:?}");
        }
    });
}

/// Also where this view's own marks are names.
#[test]
fn a_directory_with_the_name_of_a_mark_goes_with_the_whiteout() {
    for_each_mounter("directories as marks, written", |c| {
        c.sh("for n in a b c d e; do mkdir u/.wh.$n; touch u/.wh.$n/in; done").ok();
        c.sh("mkdir -p l/o u/o/.wh..wh..opq u/z && touch l/a l/o/hidden u/x u/y").ok();
        let mount = || {
            let mount = format!("FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT=1 $STRATAFS -o {LAYERS} m");
            c.sh(&mount).ok();
        };
        mount();
        let look = "ls -A m m/o && cat m/a";
        let change =
            "ls -A m; echo new >m/a && ln m/x m/b && mv m/y m/c && mv m/z m/d && mkdir m/e";
        let first = c.sh(&format!("{change}; {look}"));
        c.stratafs(&["umount", "m"]).ok();
        let now = "m:\na\nb\nc\nd\ne\no\nx\n\nm/o:\nnew\n";
        assert_eq!((first.out, &first.err[..]), (format!("o\nx\ny\nz\n{now}"), ""));
        assert_eq!(c.sh("ls -A u").ok().out, "a\nb\nc\nd\ne\no\nx\n");
        mount();
        let again = c.sh(look);
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!((&again.out[..], &again.err[..]), (now, ""));
    });
}

#[test]
fn a_name_that_is_only_a_mark_is_in_no_listing() {
    for_each_mounter("bare marks", |c| {
        c.sh("mkdir u/d && touch u/.wh. u/f u/d/.wh. u/d/.wh.g && ln -s $STRATAFS fuse-overlayfs")
            .ok();
        for mount in ["./fuse-overlayfs", "FUSE_OVERLAYFS_DISABLE_OVL_WHITEOUT=1 $STRATAFS"] {
            c.sh(&format!("{mount} -o {LAYERS} m")).ok();
            let out = c.sh("ls -A m m/d");
            c.stratafs(&["umount", "m"]).ok();
            assert_eq!(out.ok().out, "m:\nd\nf\n\nm/d:\n", "{mount}");
        }
    });
}

#[test]
fn names_of_marks_are_ordinary_unless_told() {
    for_each_mounter(".wh. names", |c| {
        c.sh("mkdir l2 l/d l2/d && touch l/.wh.a l2/a l2/d/low l/d/.wh..wh..opq").ok();
        c.stratafs(&["-o", "lowerdir=l:l2", "m"]).ok();
        let plain = c.sh("ls -A m m/d");
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(plain.ok().out, "m:\n.wh.a\na\nd\n\nm/d:\n.wh..wh..opq\nlow\n");
        c.sh("ln -s $STRATAFS fuse-overlayfs && ./fuse-overlayfs -o lowerdir=l:l2 m").ok();
        let told = c.sh("ls -A m m/d");
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(told.ok().out, "m:\nd\n\nm/d:\n");
    });
}

#[test]
fn merged_directories_count_their_links_under_the_old_name() {
    for_each_mounter("nlink", |c| {
        c.sh("mkdir -p l/d/a l/d/b u/d && ln -s $STRATAFS fuse-overlayfs").ok();
        c.sh(&format!("./fuse-overlayfs -o {LAYERS} m")).ok();
        let out = c
            .sh("stat -c %h m/d && mkdir m/d/c && stat -c %h m/d && rmdir m/d/a && stat -c %h m/d");
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(out.ok().out, "4\n5\n4\n");
    });
}

#[test]
fn lowers_may_be_symlinks_with_colons_in_their_names() {
    for_each_mounter("symlinked lowers", |c| {
        c.sh("mkdir real 'a:b' && touch real/r a:b/c && ln -s real link").ok();
        let out = with(c, "", "true");
        assert_eq!(out, "");
        c.stratafs(&["-o", r"lowerdir=link:a\:b:,ro", "m"]).ok();
        let out = c.sh("ls m");
        c.stratafs(&["umount", "m"]).ok();
        assert_eq!(out.ok().out, "c\nr\n");
    });
}

#[test]
fn exit_statuses_are_those_that_callers_expect() {
    for_each_mounter("exit status", |c| {
        c.sh("for n in fuse-overlayfs mount.stratafs mount.fuse.stratafs; do ln -s $STRATAFS $n; done")
            .ok();
        let status = |line: &str| c.sh(line).code;
        assert_eq!(status("$STRATAFS -o bogus m"), Some(2));
        assert_eq!(status("./fuse-overlayfs -o lowerdir=l,bogus m"), Some(1));
        assert_eq!(status("./fuse-overlayfs -o lowerdir=nothing m"), Some(1));
        assert_eq!(status("./mount.stratafs none m -o bogus"), Some(1));
        assert_eq!(status("./mount.stratafs none m -o lowerdir=nothing"), Some(32));
        assert_eq!(status("./mount.fuse.stratafs none m -f -o lowerdir=l"), Some(0));
        assert_eq!(c.mount_line(), None);
        assert_eq!(status("./mount.fuse.stratafs none m -s -n -o lowerdir=l,bogus,rw"), Some(0));
        assert!(c.mount_line().is_some());
        c.stratafs(&["umount", "m"]).ok();
        let said = c.sh("./fuse-overlayfs -o lowerdir=l,bogus=1 m");
        assert!(said.err.contains("unknown mount option 'bogus'"), "{said:?}");
        let version = c.sh("./fuse-overlayfs --version").ok().out;
        assert!(version.contains("version 0"), "{version}");
        assert!(c.sh("./fuse-overlayfs --help").ok().out.contains("uidmapping="));
    });
}

#[test]
fn mount_8_finds_an_installed_link() {
    if !is_root() {
        return skip("mount -t fuse.stratafs", "only root installs links");
    }
    let Some(c) = root("mount -t fuse.stratafs") else { return };
    // a place of its own for helpers, seen by nobody else
    let script = "mkdir sbin && cp -a /sbin/. sbin/ 2>/dev/null; cp $STRATAFS sbin/mount.fuse.stratafs &&
        mount --bind sbin /sbin && echo low >l/f &&
        mount -t fuse.stratafs none m -o lowerdir=$PWD/l,upperdir=$PWD/u,workdir=$PWD/w,noauto,user,suid,dev,exec,_netdev,x-a=b &&
        cat m/f && grep -c \"$PWD/m fuse.stratafs\" /proc/mounts && umount m &&
        echo \"img $PWD/m fuse.stratafs lowerdir=$PWD/l,noauto,nofail 0 0\" >fstab &&
        mount -T fstab m && cat m/f && umount m";
    let dir = std::fs::canonicalize("/sbin").unwrap();
    if dir != std::path::Path::new("/usr/sbin") && dir != std::path::Path::new("/sbin") {
        return skip("mount -t fuse.stratafs", "no /sbin");
    }
    std::fs::write(c.path("script"), script).unwrap();
    let said = c.sh("unshare -m --propagation private sh -e script");
    if said.err.contains("unshare failed") {
        return skip("mount -t fuse.stratafs", &said.err);
    }
    assert_eq!(said.ok().out, "low\n1\nlow\n");
    assert_eq!(text(&c.path("l/f")), "low\n");
}

#[test]
fn a_remount_changes_how_access_times_are_kept() {
    let Some(c) = root("remount,atime") else { return };
    c.stratafs(&["-o", &format!("{LAYERS},noatime"), "m"]).ok();
    let flags = || c.sh("findmnt -no OPTIONS m").ok().out.trim().to_owned();
    let after = |options: &str| {
        c.stratafs(&["-o", &format!("remount,{options}"), "m"]).ok();
        let all = flags();
        let told = all.split(',').filter(|f| f.contains("atime") || f.contains("sym"));
        told.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(after("ro"), "noatime");
    assert_eq!(after("rw,atime"), "relatime");
    assert_eq!(after("noatime"), "noatime");
    assert_eq!(after("noatime,relatime"), "relatime");
    // what others have set stays
    let said = c.sh("mount --version && mount -i -o remount,bind,nosymfollow,nodiratime m");
    if said.code != Some(0) || !flags().contains("nosymfollow") {
        c.stratafs(&["umount", "m"]).ok();
        return skip("remount,nosymfollow", &said.err);
    }
    assert_eq!(after("ro,nosymfollow"), "nodiratime relatime nosymfollow");
    assert_eq!(after("rw"), "nodiratime relatime nosymfollow");
    assert_eq!(after("diratime"), "relatime nosymfollow");
    c.stratafs(&["umount", "m"]).ok();
    // the daemon hears nothing of it: in the upper it is as the upper's own mount has it
    c.stratafs(&["-o", LAYERS, "m"]).ok();
    c.sh("echo x >u/f && touch -d 2001-01-01 u/f").ok();
    assert_eq!(after("noatime"), "noatime");
    assert_ne!(c.sh("cat m/f >/dev/null; stat -c %X u/f").ok().out, "978307200\n");
    c.stratafs(&["umount", "m"]).ok();
}

#[test]
fn a_remount_changes_flags_and_nothing_else() {
    let Some(c) = root("remount") else { return };
    c.sh("echo low >l/f").ok();
    c.stratafs(&["-o", &format!("{LAYERS},noexec"), "m"]).ok();
    let remount = |options: &str| c.stratafs(&["-o", &format!("remount,{options}"), "m"]);
    remount("ro,lowerdir=elsewhere,user_id=0").ok();
    let out = c.sh("! touch m/new 2>&1; cat m/f; findmnt -no OPTIONS m").ok().out;
    assert!(out.contains("Read-only") && out.contains("low\n") && out.contains("noexec"), "{out}");
    // as what is open for writing does to the kernel's own file systems
    remount("rw,exec").ok();
    let out = c.sh(
        "echo new >m/new && findmnt -no OPTIONS m; exec 9>>m/new; $STRATAFS -o remount,ro m 2>&1",
    );
    assert!(out.out.contains("busy") && !out.out.contains("noexec"), "{out:?}");
    c.stratafs(&["umount", "m"]).ok();
    assert_eq!(c.sh("cat u/new").ok().out, "new\n");
    // what has no upper cannot be written
    c.stratafs(&["-o", "lowerdir=l", "m"]).ok();
    let refused = remount("rw");
    assert!(refused.err.contains("it has no upper"), "{refused:?}");
    c.stratafs(&["umount", "m"]).ok();
    assert!(remount("ro").err.contains("no stratafs is mounted there"));
}

/// Reading through a mount with `noatime` leaves times of access also where the kernel reads by
/// itself (passthrough).
#[test]
fn noatime_leaves_times_of_access_in_the_upper() {
    for_each_mounter("noatime", |c| {
        c.sh("mkdir -p u/d && head -c 300000 /dev/zero >u/d/f").ok();
        let age = "touch -d 2001-01-01 u/d/f u/d";
        let read = "ls m/d >/dev/null && cat m/d/f >/dev/null; stat -c %X m/d/f m/d u/d/f u/d";
        let script = format!("{age} && {read}");
        assert_eq!(with(c, "noatime", &script), "978307200\n".repeat(4));
        let noted = with(c, "atime", &script);
        assert!(!noted.contains("978307200"), "{noted}");
        let times = with(c, "nodiratime", &script);
        assert_eq!(times.matches("978307200").count(), 2, "{times}");
    });
}
