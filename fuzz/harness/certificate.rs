//! What is read of a certificate is what stands in it.

use ticketgate::net::der;

pub fn run(data: &[u8]) {
    let facts = der::read(data);
    let names = facts.dns_names.iter().map(String::len).sum::<usize>();
    // A byte that is no text becomes a character of three.
    assert!(facts.common_name.len() <= 3 * data.len() && names <= 3 * data.len());
}
