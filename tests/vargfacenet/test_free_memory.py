"""What this process may take of the machine's memory, read from files that a kernel would write."""

import pytest

from vargfacenet.free_memory import free_memory, host_memory

GIB = 1 << 30


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "proc/meminfo", f"MemTotal: {9 << 20} kB\nMemFree: 1 kB\nMemAvailable: {6 << 20} kB\n")
    return tmp_path


def test_without_control_groups_it_is_what_the_machine_has_available(root):
    assert free_memory(root) == 6 * GIB


def test_the_limit_of_a_container_holds_with_pages_of_files_counted_as_free(root):
    write(root, "proc/self/cgroup", "0::/app\n")
    write(root, "sys/fs/cgroup/app/memory.max", f"{4 * GIB}\n")
    write(root, "sys/fs/cgroup/app/memory.current", f"{3 * GIB}\n")
    write(root, "sys/fs/cgroup/app/memory.stat", f"anon 5\ninactive_file {GIB}\nactive_file {GIB // 2}\n")
    assert free_memory(root) == 4 * GIB - 3 * GIB + GIB + GIB // 2
    write(root, "sys/fs/cgroup/app/memory.max", "max\n")
    assert free_memory(root) == 6 * GIB


def test_the_limit_of_a_group_above_holds_too(root):
    write(root, "proc/self/cgroup", "0::/slice/app\n")
    for folder, limit in (("slice", 2 * GIB), ("slice/app", 5 * GIB)):
        write(root, f"sys/fs/cgroup/{folder}/memory.max", str(limit))
        write(root, f"sys/fs/cgroup/{folder}/memory.current", str(GIB))
        write(root, f"sys/fs/cgroup/{folder}/memory.stat", "anon 1\n")
    assert free_memory(root) == GIB


def test_groups_of_the_first_version_hold_and_a_container_that_sees_the_hosts_path(root):
    write(root, "proc/self/cgroup", "5:cpu:/docker/1\n4:memory:/docker/1\n0::/\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", str(3 * GIB))
    write(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", str(GIB))
    write(root, "sys/fs/cgroup/memory/memory.stat", f"inactive_file 7\ntotal_inactive_file {GIB // 4}\n")
    assert free_memory(root) == 2 * GIB + GIB // 4
    write(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", str(4 * GIB))
    assert free_memory(root) == 0


def test_this_machine_has_some_and_not_more_than_all():
    assert 0 < free_memory() <= host_memory()
