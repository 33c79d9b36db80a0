//! Memory that ends at a page that must not be touched: a kernel that reads or writes one byte too far dies on the spot.
//!
//! [`GuardPages`] is the allocator of the tests. It gives every operand such a page: rows, weights and scratch memory,
//! which are the allocations that begin at a cache line and lie at the end of them in tests (see scratch.rs), and what a
//! test wraps in [`Guarded`]. Under AddressSanitizer, which watches memory of its own allocator only, it stands back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;

use bytemuck::Pod;

use crate::scratch::Line;

/// Puts what is aligned to a [`Line`] or more ahead of a page without access.
pub struct GuardPages;

#[global_allocator]
static ALLOCATOR: GuardPages = GuardPages;

fn is_guarded(layout: Layout) -> bool {
    !cfg!(sanitized) && layout.align() >= align_of::<Line>()
}

/// Bytes of a page, of the pages that hold `size` bytes, and of these with the one behind.
fn pages(size: usize) -> (usize, usize, usize) {
    // SAFETY: asking the system for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let inner = size.next_multiple_of(page);
    (page, inner, inner + page)
}

// SAFETY: what is not guarded is the system allocator's. Guarded blocks are mappings of their own with `size` accessible
// bytes up to the last page, found again from address and layout; their start is aligned because the size of a layout
// that is guarded is a multiple of its alignment (checked), and a page is one of every alignment that occurs (checked).
unsafe impl GlobalAlloc for GuardPages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_guarded(layout) {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc(layout) };
        }
        let (page, inner, whole) = pages(layout.size());
        if !layout.size().is_multiple_of(layout.align()) || !page.is_multiple_of(layout.align()) {
            return null_mut();
        }
        // SAFETY: a new anonymous mapping without access, then access to all but its last page; both are checked.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let mapped = libc::mmap(null_mut(), whole, libc::PROT_NONE, flags, -1, 0);
            if mapped == libc::MAP_FAILED {
                return null_mut();
            }
            if inner > 0 && libc::mprotect(mapped, inner, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                libc::munmap(mapped, whole);
                return null_mut();
            }
            mapped.byte_add(inner - layout.size()).cast()
        }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if !is_guarded(layout) {
            // SAFETY: as the caller promises: `alloc` took it from there.
            return unsafe { System.dealloc(start, layout) };
        }
        let (_, inner, whole) = pages(layout.size());
        // SAFETY: the very mapping that `alloc` made for this layout.
        unsafe { libc::munmap(start.sub(inner - layout.size()).cast(), whole) };
    }
}

/// A copy of some numbers whose last byte is followed by a page without access.
pub struct Guarded<T> {
    lines: Vec<Line>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Pod> Guarded<T> {
    pub fn new(values: &[T]) -> Self {
        let lines = bytemuck::zeroed_vec(size_of_val(values).div_ceil(size_of::<Line>()));
        let mut guarded = Self { lines, len: values.len(), element: std::marker::PhantomData };
        guarded.copy_from_slice(values);
        guarded
    }
}

impl<T: Pod> std::ops::Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        let all: &[T] = bytemuck::cast_slice(&self.lines);
        &all[all.len() - self.len..]
    }
}

impl<T: Pod> std::ops::DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let all: &mut [T] = bytemuck::cast_slice_mut(&mut self.lines);
        let start = all.len() - self.len;
        &mut all[start..]
    }
}

/// Each reads one number too far and dies of it; the test below runs them in processes of their own.
#[cfg(not(sanitized))]
mod overrun {
    use std::hint::black_box;
    use std::process::Command;

    use preface_backend::{Backend, Storage};

    use super::Guarded;
    use crate::simd::Scalar;
    use crate::storage::Aligned;
    use crate::{CpuBackend, CpuOptions, Precision};

    fn read_behind<T: Copy>(numbers: &[T]) {
        // SAFETY: none: the page behind has no access, and the process ends here.
        black_box(unsafe { numbers.as_ptr().add(numbers.len()).read_volatile() });
    }

    #[test]
    #[ignore = "ends its process; run by the test below"]
    fn of_guarded_numbers() {
        read_behind(&Guarded::new(&[1_u8; 7]));
    }

    #[test]
    #[ignore = "ends its process; run by the test below"]
    fn of_a_weight() {
        read_behind(&Aligned::<f32>::zeroed(5, None));
    }

    #[test]
    #[ignore = "ends its process; run by the test below"]
    fn of_rows() {
        let options = CpuOptions { precision: Precision::F32, ..CpuOptions::default() };
        let backend = CpuBackend::new(options).unwrap();
        let rows = backend.rows_from(&[0.0; 15], 5, Storage::Exact);
        read_behind(rows.view().floats(Scalar, &mut []));
    }

    #[cfg(unix)]
    #[test]
    fn kills_the_process() {
        use std::os::unix::process::ExitStatusExt;
        for name in ["of_guarded_numbers", "of_a_weight", "of_rows"] {
            let test = format!("guard::overrun::{name}");
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", &test])
                .output()
                .unwrap();
            assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{name}: {output:?}");
        }
    }
}
