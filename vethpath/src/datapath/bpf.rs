//! Commands of bpf(2) that aya lacks, or for which it needs more system calls: a whole per-CPU map is read in few
//! (`BPF_MAP_LOOKUP_BATCH`), where aya takes two per element, and the programs at a tcx hook in one (`BPF_PROG_QUERY`),
//! where aya takes three more per program. An element of an untyped map is deleted. New BPF links are found without reading
//! all others.
#![expect(
    unsafe_code,
    reason = "aya has no batch operations, and asks for more than is needed a thousand times a second"
)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya::{Pod, maps::MapError, programs::TcAttachType};
use nix::libc::{ENOENT, ENOSPC, SYS_bpf, syscall};

/// `BPF_MAP_DELETE_ELEM`, `BPF_PROG_QUERY` and `BPF_MAP_LOOKUP_BATCH` of `linux/bpf.h`.
const MAP_DELETE_ELEM: i32 = 3;
const PROG_QUERY: i32 = 16;
const MAP_LOOKUP_BATCH: i32 = 24;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const LINK_GET_FD_BY_ID: i32 = 30;
const LINK_GET_NEXT_ID: i32 = 31;

/// Initial size of the value buffer, in bytes, which fits the cache of a core. If a bucket of a hash map holds more
/// elements than the buffer, the kernel returns ENOSPC and the buffer grows.
const AT_FIRST: usize = 128 << 10;

/// Minimum number of elements per system call.
const LEAST: usize = 64;

/// The part of `union bpf_attr` for one element, as far as a deletion needs it.
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    zero: u32,
    key: u64,
}

/// The `batch` part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Removes an element of a hash map. A missing element is not an error.
///
/// # Errors
/// The kernel refuses.
pub fn delete_element<K: Pod>(map: BorrowedFd<'_>, key: &K) -> Result<(), MapError> {
    let attributes =
        ElementAttributes { map_fd: map.as_raw_fd().cast_unsigned(), zero: 0, key: key as *const K as u64 };
    // SAFETY: the kernel only reads the key, a `Pod` of the map's key size, and the attributes, whose size is
    // passed. Both outlive the call.
    let result =
        unsafe { syscall(SYS_bpf, MAP_DELETE_ELEM, &raw const attributes, size_of_val(&attributes)) };
    match (result < 0).then(io::Error::last_os_error) {
        Some(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// All elements of the per-CPU hash or array `map`: each key with its values, one for each of `cpus`. Elements that
/// are added during the read may be missing.
/// Minimum kernel: Linux 5.6 (`BPF_MAP_LOOKUP_BATCH`) for a hash map, 5.13 for an array.
///
/// # Errors
/// The kernel refuses.
pub fn per_cpu<K: Pod, V: Pod>(map: BorrowedFd<'_>, cpus: usize) -> Result<Vec<(K, Vec<V>)>, MapError> {
    let mut elements = Vec::new();
    lookup_batch(map, cpus, |key, values: &[V]| elements.push((key, values.to_vec())))?;
    Ok(elements)
}

/// As [`per_cpu`], but calls `take` for each element.
/// Minimum kernel: Linux 5.6 (`BPF_MAP_LOOKUP_BATCH`) for a hash map, 5.13 for an array.
///
/// # Errors
/// As [`per_cpu`]. `take` may have been called for some elements.
pub fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    cpus: usize,
    take: impl FnMut(K, &[V]),
) -> Result<(), MapError> {
    lookup_first(map, cpus, usize::MAX, take)
}

/// The same for the first `most` elements: of an array, those with the lowest indices.
///
/// # Errors
/// As [`lookup_batch`].
pub fn lookup_first<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    cpus: usize,
    most: usize,
    mut take: impl FnMut(K, &[V]),
) -> Result<(), MapError> {
    const { assert!(size_of::<V>().is_multiple_of(8), "the kernel pads values to 8 bytes") };
    let mut room = (AT_FIRST / (cpus * size_of::<V>()).max(1)).max(LEAST);
    let (mut keys, mut values) = (Vec::<K>::new(), Vec::<V>::new());
    // Position of the kernel in the map: the number of a bucket, or an index.
    let (mut from, mut to) = (0_u32, 0_u32);
    let (mut is_first, mut left) = (true, most);
    loop {
        room = room.min(left);
        keys.clear();
        keys.reserve(room);
        values.clear();
        values.reserve(room * cpus);
        let mut attributes = BatchAttributes {
            in_batch: if is_first { 0 } else { &raw const from as u64 },
            out_batch: &raw mut to as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd().cast_unsigned(),
            ..BatchAttributes::default()
        };
        // SAFETY: the kernel writes at most `room` keys, and as many values for each possible CPU. The buffers have
        // room for that. The attributes have the size that is passed.
        let result =
            unsafe { syscall(SYS_bpf, MAP_LOOKUP_BATCH, &raw mut attributes, size_of::<BatchAttributes>()) };
        let error = (result < 0).then(io::Error::last_os_error);
        let is_last = match error.as_ref().and_then(io::Error::raw_os_error) {
            None => false,
            Some(ENOENT) => true,
            Some(ENOSPC) if room < 1 << 20 => {
                room *= 4;
                continue;
            }
            Some(_) => return Err(error.unwrap_or_else(|| io::ErrorKind::Other.into()).into()),
        };
        let count = room.min(attributes.count as usize);
        // SAFETY: the kernel has written this many elements, and any bytes are a valid `Pod`.
        unsafe {
            keys.set_len(count);
            values.set_len(count * cpus);
        }
        keys.iter().zip(values.chunks(cpus)).for_each(|(key, values)| take(*key, values));
        left -= count;
        if is_last || left == 0 {
            return Ok(());
        }
        (from, is_first) = (to, false);
    }
}

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS` of `enum bpf_attach_type`.
const INGRESS: u32 = 46;
const EGRESS: u32 = 47;

/// Maximum number of programs at a hook (`BPF_MPROG_MAX` of `linux/bpf_mprog.h`).
const MOST: usize = 64;

/// The `query` part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    unused: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The ids of the programs at a hook of an interface in the calling thread's namespace, in order.
/// Minimum kernel: Linux 6.6 (tcx).
///
/// # Errors
/// The interface is gone, or the kernel has no tcx (`EINVAL`).
pub fn query_tcx(ifindex: u32, hook: TcAttachType) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MOST];
    let mut attributes = QueryAttributes {
        ifindex,
        attach_type: if matches!(hook, TcAttachType::Egress) { EGRESS } else { INGRESS },
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(MOST).unwrap_or_default(),
        ..QueryAttributes::default()
    };
    // SAFETY: the kernel writes at most `count` ids to `ids`, which has room for that many. The attributes have the
    // size that is passed.
    let result = unsafe { syscall(SYS_bpf, PROG_QUERY, &raw mut attributes, size_of::<QueryAttributes>()) };
    if result < 0 {
        let error = io::Error::last_os_error();
        // No program was ever attached here.
        return if error.raw_os_error() == Some(ENOENT) { Ok(Vec::new()) } else { Err(error) };
    }
    Ok(ids[..MOST.min(attributes.count as usize)].to_vec())
}

/// The parts of `union bpf_attr` of `BPF_LINK_GET_NEXT_ID` and `BPF_LINK_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct IdAttributes {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The `info` part of `union bpf_attr`.
#[repr(C)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

/// The lowest id of a BPF link that is above `id`; `None` if there is none. Links of the whole machine have ids.
/// Minimum kernel: Linux 5.8 (`BPF_LINK_GET_NEXT_ID`).
///
/// # Errors
/// `CAP_SYS_ADMIN` of the initial user namespace is missing (`bpf_obj_get_next_id` in kernel/bpf/syscall.c), or the
/// kernel is older.
pub fn next_link_id(id: u32) -> io::Result<Option<u32>> {
    let mut attributes = IdAttributes { id, ..IdAttributes::default() };
    // SAFETY: the kernel reads and writes the attributes only, which have the size that is passed.
    let result =
        unsafe { syscall(SYS_bpf, LINK_GET_NEXT_ID, &raw mut attributes, size_of::<IdAttributes>()) };
    match (result < 0).then(io::Error::last_os_error) {
        None => Ok(Some(attributes.next_id)),
        Some(error) if error.raw_os_error() == Some(ENOENT) => Ok(None),
        Some(error) => Err(error),
    }
}

/// The type of the BPF link with this id, of `enum bpf_link_type`.
/// Minimum kernel: Linux 5.8 (`BPF_LINK_GET_FD_BY_ID`).
///
/// # Errors
/// The link is gone (`ENOENT`), its program is being attached (`EAGAIN`, `bpf_link_by_id` in kernel/bpf/syscall.c), or
/// the kernel refuses.
pub fn link_type(id: u32) -> io::Result<u32> {
    let attributes = IdAttributes { id, ..IdAttributes::default() };
    // SAFETY: the kernel reads the attributes only, which have the size that is passed.
    let link =
        unsafe { syscall(SYS_bpf, LINK_GET_FD_BY_ID, &raw const attributes, size_of::<IdAttributes>()) };
    let link = i32::try_from(link).ok().filter(|link| *link >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just returned it, and nothing else owns it.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    // The first member of `struct bpf_link_info`.
    let mut kind = 0_u32;
    let mut attributes = InfoAttributes {
        fd: link.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<u32>()).unwrap_or_default(),
        info: &raw mut kind as u64,
    };
    // SAFETY: the kernel writes at most `length` bytes to `info`. The attributes have the size that is passed.
    let result =
        unsafe { syscall(SYS_bpf, OBJ_GET_INFO_BY_FD, &raw mut attributes, size_of::<InfoAttributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}
