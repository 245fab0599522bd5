//! Debian's kernels by series: which package is the newest, and where its parts lie once it is unpacked.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::packages::{PrivateApt, folder};

/// The series of the matrix, oldest first; `7` is the newest there is.
pub(super) const SERIES: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7"];
/// What `cargo xtask test` boots: one without TCX, and the newest.
pub(super) const DEFAULT: [&str; 2] = ["6.1", "7"];
/// How Debian calls its kernels for virtual machines.
pub(super) const FLAVOUR: &str = "-cloud-amd64";

/// A kernel that is ready to boot.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// As the user asks for it.
    pub(super) series: String,
    /// Its whole version, as `uname -r` tells it.
    pub(super) release: String,
    /// The image.
    pub(super) image: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
}

/// Kernels of these series: those that are unpacked already, and the newest of each of the others from Debian.
pub(super) fn ensure(series: &[String], fresh: bool) -> anyhow::Result<Vec<Kernel>> {
    let mut apt = None;
    series
        .iter()
        .map(|series| {
            let at = folder().join("kernels").join(series);
            if fresh && at.exists() {
                std::fs::remove_dir_all(&at).with_context(|| format!("remove {}", at.display()))?;
            }
            if !at.exists() {
                let apt = match &mut apt {
                    Some(apt) => apt,
                    none => none.insert(PrivateApt::open()?),
                };
                let packages = newest(&apt.names(FLAVOUR)?, series).with_context(|| {
                    format!("find a kernel of series {series}\nhint: series are {}", SERIES.join(", "))
                })?;
                if let Some(above) = at.parent() {
                    std::fs::create_dir_all(above).with_context(|| format!("create {}", above.display()))?;
                }
                apt.unpack(&packages, &at)?;
            }
            unpacked(series, &at)
        })
        .collect()
}

/// The packages that make up the newest kernel of a series. From 6.19 on the image is split in two.
fn newest(names: &[String], series: &str) -> Option<Vec<String>> {
    let of_series = |release: &str| release.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'));
    let release = |name: &'_ str, prefix: &str| -> Option<String> {
        let release = name.strip_prefix(prefix)?;
        of_series(release).then(|| release.to_owned())
    };
    let has = |name: &str| names.iter().any(|other| other == name);
    let whole = names.iter().filter_map(|name| Some((release(name, "linux-image-")?, vec![name.clone()])));
    let split = names.iter().filter_map(|name| {
        let release = release(name, "linux-binary-")?;
        let modules = format!("linux-modules-{release}");
        has(&modules).then(|| (release, vec![name.clone(), modules]))
    });
    whole
        .filter(|(release, _)| !release.ends_with(&format!("{series}{FLAVOUR}")))
        .chain(split)
        .max_by_key(|(release, _)| numbers(release))
        .map(|(_, packages)| packages)
}

/// The numbers in a version, for comparing: `6.1.0-49` is newer than `6.1.0-0.deb11.52`.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Finds image and modules in an unpacked kernel.
fn unpacked(series: &str, at: &Path) -> anyhow::Result<Kernel> {
    let modules = ["lib/modules", "usr/lib/modules"].iter().find_map(|place| {
        let mut entries = std::fs::read_dir(at.join(place)).ok()?.flatten();
        entries.next().map(|entry| entry.path())
    });
    let modules = modules.with_context(|| format!("find modules in {}", at.display()))?;
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let images = [at.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let Some(image) = images.into_iter().find(|image| image.is_file()) else {
        bail!("find the image of kernel {release} in {}", at.display());
    };
    Ok(Kernel { series: series.to_owned(), release, image, modules })
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_of_a_series_is_chosen_by_numbers_and_split_images_are_whole() {
        let names: Vec<String> = [
            "linux-image-6.1-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.12.1+deb13-cloud-amd64",
            "linux-binary-7.2.12+deb13-cloud-amd64",
            "linux-modules-7.2.12+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(newest(&names, "6.1"), Some(vec!["linux-image-6.1.0-56-cloud-amd64".to_owned()]));
        let split = ["linux-binary-7.2.12+deb13-cloud-amd64", "linux-modules-7.2.12+deb13-cloud-amd64"];
        assert_eq!(newest(&names, "7"), Some(split.map(str::to_owned).to_vec()));
        assert_eq!(newest(&names, "5.4"), None);
    }
}
