//! Memory that ends at a page that must not be touched: a kernel that reads or writes one byte too far dies on the spot.

use bytemuck::Pod;

/// A copy of some numbers whose last byte is followed by a page without access, as is the page before.
pub struct Guarded<T> {
    mapped: *mut libc::c_void,
    n_byte: usize,
    start: *mut T,
    len: usize,
}

impl<T: Pod> Guarded<T> {
    pub fn new(values: &[T]) -> Self {
        // SAFETY: asking the system for a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let n_value_byte = size_of_val(values);
        let n_inner = n_value_byte.next_multiple_of(page);
        let n_byte = n_inner + 2 * page;
        // SAFETY: a new anonymous mapping without access, then access to all but its first and last page; both results are
        // checked. The values fit in between: `n_inner` is at least their size.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let mapped = libc::mmap(std::ptr::null_mut(), n_byte, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(mapped, libc::MAP_FAILED);
            if n_inner > 0 {
                let access = libc::PROT_READ | libc::PROT_WRITE;
                assert_eq!(libc::mprotect(mapped.byte_add(page), n_inner, access), 0);
            }
            let start: *mut T = mapped.byte_add(page + n_inner - n_value_byte).cast();
            assert!(start.is_aligned());
            start.copy_from_nonoverlapping(values.as_ptr(), values.len());
            Self { mapped, n_byte, start, len: values.len() }
        }
    }
}

impl<T> std::ops::Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `new` put `len` values there, and the borrow of `self` is shared.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> std::ops::DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: `new` put `len` values there, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the very mapping that `new` made, which nothing borrows any longer.
        unsafe { libc::munmap(self.mapped, self.n_byte) };
    }
}
