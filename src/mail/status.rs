//! Enhanced status codes (RFC 3463) and reply codes, as far as something is decided by them.

/// Whether a status says that the address itself is at fault, so that other mail to it will fail as well: it is bad
/// (section 3.2), or its mailbox is disabled (section 3.3). `5.1.7` and `5.1.8` are about the sender's address, and
/// providers use others below `5.1` for limits of the sender, such as `5.1.90`.
pub fn blames_address(status: &str) -> bool {
    matches!(status, "5.1.0" | "5.1.1" | "5.1.2" | "5.1.3" | "5.1.4" | "5.1.5" | "5.1.6" | "5.1.10" | "5.2.1")
}

/// The same of a reply code, where a server has answered for one recipient and no status says more (RFC 5321 section
/// 4.2.3).
pub fn code_blames_address(code: u16) -> bool {
    matches!(code, 550 | 551 | 553)
}
