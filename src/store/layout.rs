//! Every path of the store, with its permissions, as dockerd 20.10 makes them.
//!
//! ```text
//! ROOT/                                   0710
//!   stratafs.lock stratafs-import.lock    0644   ours, see lock.rs
//!   image/overlay2/                       0700
//!     repositories.json                   0600
//!     distribution/                       0700
//!       diffid-by-digest/ALG/HEX          0644 in 0755
//!       v2metadata-by-diffid/sha256/HEX   0644 in 0755
//!     imagedb/                            0700
//!       content/sha256/HEX                0600
//!       metadata/sha256/HEX/              0700
//!         lastUpdated                     0600
//!     layerdb/                            0700
//!       sha256/HEX-OF-CHAINID/            0700 in 0755
//!         cache-id diff size parent tar-split.json.gz        0644
//!         stratafs.index                  0644   ours; dockerd ignores it
//!         stratafs.stack                  0644   ours, of the chain that ends here; ignored too
//!       tmp/write-set-stratafs-CACHE-ID/  0700 in 0755; becomes sha256/HEX
//!       tmp/write-set-stratafs-CACHE-ID/  0755 for a container; becomes mounts/ID
//!       tmp/write-set-stratafs-CACHE-ID.parent               0600   journal, see txn.rs
//!       mounts/ID/                        0755 in 0755
//!         mount-id init-id parent         0644
//!         stratafs.json                   0644   ours; dockerd ignores it
//!   overlay2/                             0710
//!     l/LINK -> ../CACHE-ID/diff          in 0700
//!     CACHE-ID/                           0710
//!       diff/                             0755
//!       link lower                        0644
//!       work/                             0700
//!       committed                         0600
//! ```
//! A missing directory is empty to a reader: dockerd makes several only when it needs them.

/// `image/overlay2`, the home of `repositories.json`.
pub(super) const IMAGE: &str = "image/overlay2";
/// Blob digest to DiffID; directories by algorithm below it.
pub(super) const DIFFID_BY_DIGEST: &str = "image/overlay2/distribution/diffid-by-digest";
/// Image configs by id.
pub(super) const CONTENT: &str = "image/overlay2/imagedb/content/sha256";
/// Directories of facts on images by id.
pub(super) const METADATA: &str = "image/overlay2/imagedb/metadata/sha256";
/// Layers by ChainID.
pub(super) const LAYERS: &str = "image/overlay2/layerdb/sha256";
/// What is in the making.
pub(super) const TMP: &str = "image/overlay2/layerdb/tmp";
/// Containers by id.
pub(super) const MOUNTS: &str = "image/overlay2/layerdb/mounts";
/// Layer directories by cache id.
pub(super) const OVERLAY2: &str = "overlay2";
/// Short names of layer directories.
pub(super) const LINKS: &str = "overlay2/l";

/// The file of names, in [`IMAGE`].
pub(super) const REPOSITORIES: &str = "repositories.json";
/// Lock of importers, in the root.
pub(super) const IMPORT_LOCK: &str = "stratafs-import.lock";
/// Lock of readers and committers, in the root.
pub(super) const STORE_LOCK: &str = "stratafs.lock";
/// Every write set of ours begins so; dockerd's are `write-set-` and digits.
pub(super) const WRITE_SET: &str = "write-set-stratafs-";
/// A journal entry ends so.
pub(super) const JOURNAL: &str = ".parent";
/// Our side file of a container.
pub(super) const SIDE_FILE: &str = "stratafs.json";

/// Permissions of the root.
pub(super) const ROOT_MODE: u32 = 0o710;
/// Permissions of an image's directory in `imagedb/metadata`.
pub(super) const IMAGE_FACTS_MODE: u32 = 0o700;
/// Permissions of the directories by algorithm in `distribution`.
pub(super) const DIGEST_MODE: u32 = 0o755;
/// Permissions of a layer's directory in `layerdb/sha256`.
pub(super) const LAYER_MODE: u32 = 0o700;
/// Permissions of a container's directory in `layerdb/mounts`.
pub(super) const MOUNT_MODE: u32 = 0o755;
/// Permissions of `overlay2/CACHE-ID`.
pub(super) const CACHE_MODE: u32 = 0o710;
/// Permissions of `diff`.
pub(super) const DIFF_MODE: u32 = 0o755;
/// Permissions of `work`.
pub(super) const WORK_MODE: u32 = 0o700;
/// Permissions of files in layerdb, overlay2 and distribution.
pub(super) const FILE_MODE: u32 = 0o644;
/// Permissions of configs, names, image facts and `committed`.
pub(super) const PRIVATE_MODE: u32 = 0o600;

/// The directories that every store has, parents first, with their permissions.
pub(super) const TREE: &[(&str, u32)] = &[
    ("image", 0o700),
    (IMAGE, 0o700),
    ("image/overlay2/distribution", 0o700),
    (DIFFID_BY_DIGEST, 0o755),
    ("image/overlay2/distribution/diffid-by-digest/sha256", 0o755),
    ("image/overlay2/distribution/v2metadata-by-diffid", 0o755),
    ("image/overlay2/distribution/v2metadata-by-diffid/sha256", 0o755),
    ("image/overlay2/imagedb", 0o700),
    ("image/overlay2/imagedb/content", 0o700),
    (CONTENT, 0o700),
    ("image/overlay2/imagedb/metadata", 0o700),
    (METADATA, 0o700),
    ("image/overlay2/layerdb", 0o700),
    (LAYERS, 0o755),
    (TMP, 0o755),
    (MOUNTS, 0o755),
    (OVERLAY2, 0o710),
    (LINKS, 0o700),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_children() {
        for (i, (path, _)) in TREE.iter().enumerate() {
            if let Some((parent, _)) = path.rsplit_once('/') {
                assert!(TREE[..i].iter().any(|(p, _)| *p == parent), "{path}");
            }
        }
    }
}
