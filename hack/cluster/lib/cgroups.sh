# shellcheck shell=bash
# The cluster's control groups: the one thing that it has outside of its
# namespaces. Everything of a cluster is below a group of its name.

# Every hierarchy: one per controller with cgroup v1, a single one with v2, both
# kinds on systems that mix them.
cgroup_mounts() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts; }

# With v2, a group has only those controllers that its parent passes on. Some may
# not be available; the kubelet says so if it misses one.
pass_on_controllers() { # pass_on_controllers GROUP
  local controller controllers
  read -r -a controllers <"$1/cgroup.controllers" || true
  for controller in "${controllers[@]}"; do
    echo "+$controller" 2>/dev/null >"$1/cgroup.subtree_control" || true
  done
}

make_cgroups() {
  local mount file
  for mount in $(cgroup_mounts); do
    mkdir -p "$mount/$NAME"
    if [ -e "$mount/cgroup.controllers" ]; then
      pass_on_controllers "$mount"
      pass_on_controllers "$mount/$NAME"
    fi
    # With v1, a new group may use no processor and no memory node until told.
    for file in cpuset.cpus cpuset.mems; do
      if [ -e "$mount/$NAME/$file" ] && [ ! -e "$mount/cgroup.controllers" ]; then
        cat "$mount/$file" >"$mount/$NAME/$file"
      fi
    done
  done
}

cgroups_in_use() {
  local mount
  for mount in $(cgroup_mounts); do
    if [ -d "$mount/$NAME" ] && find "$mount/$NAME" -name cgroup.procs -exec cat {} + 2>/dev/null | grep -q .; then
      return 0
    fi
  done
  return 1
}

remove_cgroups() {
  local mount left
  # A group can be removed only some moments after its last process has ended.
  for _ in $(seq 1 50); do
    left=()
    for mount in $(cgroup_mounts); do
      [ -d "$mount/$NAME" ] || continue
      find "$mount/$NAME" -depth -type d -exec rmdir {} + 2>/dev/null || true
      if [ -d "$mount/$NAME" ]; then left+=("$mount/$NAME"); fi
    done
    [ ${#left[@]} -gt 0 ] || return 0
    sleep 0.1
  done
  say "these control groups could not be removed: ${left[*]}"
  return 1
}
