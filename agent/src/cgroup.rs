//! What a cgroup's path tells: the container and the pod. Pure.
//!
//! Kubelet, container runtimes and systemd name cgroups by habit, not by contract; the shapes known here are in the tests.

/// Whose a cgroup is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Container id; empty where the cgroup is no container's.
    pub container: String,
    /// The pod's UID, with dashes; empty where the cgroup is no pod's.
    pub pod_uid: String,
}

/// What runtimes put before a container's id in the name of a systemd scope.
const SCOPE_PREFIXES: [&str; 6] = ["cri-containerd-", "crio-", "docker-", "libpod-", "containerd-", "podman-"];
/// Scopes that look like a container's and are a helper of the runtime.
const HELPER_PREFIXES: [&str; 3] = ["crio-conmon-", "libpod-conmon-", "libpod-payload-"];

/// Reads a path of the hierarchy (v2, or any one of v1). The innermost pod and container count, so a cluster inside a
/// container (kind, k3d) is read as the cluster that it is.
#[must_use]
pub fn place(path: &str) -> Place {
    let mut place = Place::default();
    // containerd of v1 writes `<slice>:cri-containerd:<id>` as one name.
    for part in path.split(['/', ':']) {
        if let Some(uid) = pod_uid(part) {
            place = Place { pod_uid: uid, container: String::new() };
        } else if let Some(id) = container_id(part) {
            place.container = id.to_owned();
        }
    }
    place
}

/// `pod<uid>` (cgroupfs) or `kubepods[-burstable|-besteffort]-pod<uid>.slice` (systemd, dashes of the UID as underscores).
fn pod_uid(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        // Nested kubelets put their own prefix before: kubelet-kubepods-…
        Some(slice) => &slice[slice.rfind("-pod").filter(|at| slice[..*at].contains("kubepods"))? + 4..],
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    // Static pods have a hash without dashes for a UID.
    let dashed = uid.len() == 36 && uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let plain = uid.len() == 32;
    ((dashed || plain) && uid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())).then_some(uid)
}

/// A container's id in a part of a path: 64 hexadecimal digits, alone or in a scope.
fn container_id<'a>(part: &'a str) -> Option<&'a str> {
    if HELPER_PREFIXES.iter().any(|prefix| part.starts_with(prefix)) {
        return None;
    }
    let prefixed = |name: &'a str| SCOPE_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    let id = match part.strip_suffix(".scope") {
        Some(name) => prefixed(name)?,
        None => prefixed(part).unwrap_or(part),
    };
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// The path in `/proc/PID/cgroup` that names the container best: the v2 line where there is one that tells, else the v1
/// hierarchies in their order.
#[must_use]
pub fn of_process(text: &str) -> Option<&str> {
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let tells = |path: &&str| place(path) != Place::default();
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    unified.filter(tells).or_else(|| paths().find(tells)).or(unified)
}

#[cfg(test)]
mod tests {
    use super::{Place, of_process, place};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "12345678-9abc-4def-8123-456789abcdef";
    const FLAT: &str = "0123456789abcdef0123456789abcdef";

    fn check(path: &str, container: &str, pod_uid: &str) {
        let under = UID.replace('-', "_");
        let path = path.replace("$ID", ID).replace("$UID", UID).replace("$U_", &under);
        let expect = Place { container: container.to_owned(), pod_uid: pod_uid.to_owned() };
        assert_eq!(place(&path), expect, "{path}");
    }

    #[test]
    fn shapes_of_the_field() {
        for qos in ["", "-burstable", "-besteffort"] {
            let slices = |scope: &str| {
                let parent = if qos.is_empty() { String::new() } else { format!("/kubepods{qos}.slice") };
                format!("/kubepods.slice{parent}/kubepods{qos}-pod$U_.slice/{scope}")
            };
            check(&slices("cri-containerd-$ID.scope"), ID, UID);
            check(&slices("crio-$ID.scope"), ID, UID);
            check(&slices("docker-$ID.scope"), ID, UID);
            check(&slices("crio-$ID.scope/container"), ID, UID);
            check(&slices("crio-conmon-$ID.scope"), "", UID);
            check(&slices(""), "", UID);
        }
        for qos in ["", "/burstable", "/besteffort"] {
            // cgroupfs driver, any runtime.
            check(&format!("/kubepods{qos}/pod$UID/$ID"), ID, UID);
            check(&format!("/kubepods{qos}/pod$UID/crio-$ID"), ID, UID);
        }
        // containerd under the systemd driver with cgroupfs paths of v1.
        check("/system.slice/containerd.service/kubepods-burstable-pod$U_.slice:cri-containerd:$ID", ID, UID);
        check("/kubepods-burstable-pod$U_.slice/kubepods-burstable-pod$U_.slice:cri-containerd:$ID", ID, UID);
        // Static pods.
        check(&format!("/kubepods/burstable/pod{FLAT}/$ID"), ID, FLAT);
        check(&format!("/kubepods.slice/kubepods-pod{FLAT}.slice/cri-containerd-$ID.scope"), ID, FLAT);
        // Docker and Podman alone.
        check("/docker/$ID", ID, "");
        check("/system.slice/docker-$ID.scope", ID, "");
        check("/machine.slice/libpod-$ID.scope/container", ID, "");
        check("/machine.slice/libpod-conmon-$ID.scope", "", "");
        // kind and k3d: a node in a container, its pods inside.
        let outer = "f".repeat(64);
        check(
            &format!(
                "/docker/{outer}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod$U_.slice/cri-containerd-$ID.scope"
            ),
            ID,
            UID,
        );
        check(&format!("/docker/{outer}/kubepods/besteffort/pod$UID/$ID"), ID, UID);
        check(&format!("/system.slice/docker-{outer}.scope/kubelet/kubepods/pod$UID/$ID"), ID, UID);
        // Nobody's.
        for path in
            ["/", "", "/init.scope", "/system.slice/sshd.service", "/user.slice/user-1000.slice/session-3.scope"]
        {
            check(path, "", "");
        }
        // Looks alike and is not.
        check("/kubepods.slice/kubepods-podxyz.slice", "", "");
        check("/podcast/$ID0", "", "");
        check("/system.slice/run-pod12345678.slice", "", "");
    }

    #[test]
    fn a_process_is_where_its_lines_say() {
        let v2 = format!("0::/kubepods/pod{UID}/{ID}\n");
        assert_eq!(of_process(&v2).map(place).map(|place| place.pod_uid), Some(UID.to_owned()));
        let v1 = format!("12:pids:/kubepods/burstable/pod{UID}/{ID}\n1:name=systemd:/kubepods/x\n");
        assert_eq!(of_process(&v1).map(place).map(|place| place.container), Some(ID.to_owned()));
        let hybrid = format!("11:memory:/docker/{ID}\n0::/\n");
        assert_eq!(of_process(&hybrid).map(place).map(|place| place.container), Some(ID.to_owned()));
        assert_eq!(of_process("0::/init.scope\n"), Some("/init.scope"));
        assert_eq!(of_process(""), None);
    }
}
