//! Reads the entropy-coded data of a JPEG, to tell a picture whose blocks are all there from one that is cut off.
//!
//! The decoder fills missing blocks without a word, and the end marker proves nothing: files without it can be
//! complete, and files with it can lack blocks. Nothing but the codes themselves tells. Terms and procedures are
//! those of ITU-T T.81.

/// Scans of a picture; the decoder has the same limit.
const SCANS_MAX: usize = 100;
const COMPONENTS_MAX: usize = 4;
/// Codes up to this length are looked up at once.
const LOOKUP_BITS: u32 = 9;
/// Coefficients of a block.
const BLOCK: usize = 64;

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// What a file's scans hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JpegScans {
    /// All blocks; the picture ends here.
    Complete { end: usize },
    /// Blocks are missing.
    Incomplete,
    /// A code or a table is invalid.
    Damaged,
    /// A process other than Huffman-coded sequential or progressive; the decoder decides.
    Unknown,
}

pub(super) fn scans(bytes: &[u8]) -> JpegScans {
    let mut picture = ScanReader { bytes, at: 2, ..ScanReader::default() };
    match picture.read() {
        Ok(()) => JpegScans::Complete { end: picture.at },
        Err(Stop::Ends) => JpegScans::Incomplete,
        Err(Stop::Damaged) => JpegScans::Damaged,
        Err(Stop::Unknown) => JpegScans::Unknown,
    }
}

/// Why reading stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Ends,
    Damaged,
    Unknown,
}

/// One component of the frame.
#[derive(Default)]
struct FrameComponent {
    id: u8,
    /// Sampling factors.
    across: usize,
    down: usize,
    /// Blocks in a row, as its own scan has them, and as scans of several components have them.
    own_blocks: [usize; 2],
    row_blocks: usize,
    /// Per block the coefficients that are not zero, bit by bit; for progressive pictures only.
    nonzero: Vec<u64>,
    /// Bits that each coefficient still lacks; none of it seen yet: 14.
    lacks: Vec<u8>,
}

/// A Huffman table (annex C, F.2.2.3).
#[derive(Clone)]
struct HuffmanCodes {
    /// For the next bits: symbol and length; length 0 for longer codes.
    lookup: Vec<(u8, u8)>,
    /// Largest code of each length, -1 for none, and the index of its first symbol less its first code.
    largest: [i32; 17],
    offset: [i32; 17],
    symbols: Vec<u8>,
}

/// A scan's parameters.
struct ScanParameters {
    /// Component, its DC and its AC table.
    components: Vec<(usize, usize, usize)>,
    first: usize,
    last: usize,
    high: u8,
    low: u8,
}

#[derive(Default)]
struct ScanReader<'a> {
    bytes: &'a [u8],
    at: usize,
    bits: u32,
    bit_count: u32,
    /// Bits that were made up behind the end of the data. The lookup may see them; codes may not consist of them.
    made_up: u32,
    is_progressive: bool,
    width: usize,
    height: usize,
    components: Vec<FrameComponent>,
    direct: [Option<HuffmanCodes>; 4],
    alternating: [Option<HuffmanCodes>; 4],
    restart_interval: usize,
    end_of_band: u32,
}

impl ScanReader<'_> {
    fn read(&mut self) -> Result<(), Stop> {
        let mut scans = 0;
        loop {
            let Ok(marker) = self.marker() else {
                return if self.is_complete() { Ok(()) } else { Err(Stop::Ends) };
            };
            match marker {
                END_OF_IMAGE if self.has_all_components() => {
                    self.at -= 2;
                    return Ok(());
                }
                END_OF_IMAGE => return Err(Stop::Ends),
                0x01 | 0xd0..=0xd8 => {}
                _ => {
                    // Behind the last block, what does not read as a segment is a trailer.
                    let start = self.at - 2;
                    let done = self.is_complete();
                    let outcome = match self.segment() {
                        Ok(segment) => self.take(marker, segment),
                        Err(stop) => Err(stop),
                    };
                    match outcome {
                        Err(_) if done => {
                            self.at = start;
                            return Ok(());
                        }
                        outcome => outcome?,
                    }
                    if marker == START_OF_SCAN {
                        scans += 1;
                        if self.is_complete() && !self.is_progressive {
                            return Ok(());
                        }
                        if scans > SCANS_MAX {
                            return Err(Stop::Damaged);
                        }
                    }
                }
            }
        }
    }

    fn take(&mut self, marker: u8, segment: std::ops::Range<usize>) -> Result<(), Stop> {
        let bytes = self.bytes;
        let segment = &bytes[segment];
        match marker {
            0xc0..=0xc2 => self.frame(segment, marker == 0xc2),
            0xc4 => self.tables(segment),
            // Lossless, hierarchical and arithmetic-coded pictures.
            0xc3 | 0xc5..=0xcf | 0xde | 0xdf => Err(Stop::Unknown),
            0xdd => {
                let [high, low, ..] = *segment else { return Err(Stop::Damaged) };
                self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
                Ok(())
            }
            START_OF_SCAN => {
                let scan = self.scan_parameters(segment)?;
                self.scan(&scan)
            }
            _ => Ok(()),
        }
    }

    /// The next marker; anything between is passed over.
    fn marker(&mut self) -> Result<u8, Stop> {
        loop {
            let rest = self.bytes.get(self.at..).ok_or(Stop::Ends)?;
            let next = rest.iter().position(|byte| *byte == 0xff).ok_or(Stop::Ends)?;
            self.at += next + 1;
            match *self.bytes.get(self.at).ok_or(Stop::Ends)? {
                0xff => {}
                0 => self.at += 1,
                marker => {
                    self.at += 1;
                    return Ok(marker);
                }
            }
        }
    }

    fn segment(&mut self) -> Result<std::ops::Range<usize>, Stop> {
        let length = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(Stop::Ends)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (start, end) = (self.at + 2, self.at + length);
        if length < 2 {
            return Err(Stop::Damaged);
        }
        if end > self.bytes.len() {
            return Err(Stop::Ends);
        }
        self.at = end;
        Ok(start..end)
    }

    /// B.2.2
    fn frame(&mut self, segment: &[u8], is_progressive: bool) -> Result<(), Stop> {
        let [precision, h1, h0, w1, w0, count, parts @ ..] = segment else { return Err(Stop::Damaged) };
        let [width, height] = [[*w1, *w0], [*h1, *h0]].map(|side| usize::from(u16::from_be_bytes(side)));
        let count = usize::from(*count);
        if !self.components.is_empty() || count == 0 || count > COMPONENTS_MAX || parts.len() < 3 * count {
            return Err(Stop::Damaged);
        }
        if *precision != 8 || width == 0 || height == 0 {
            return Err(Stop::Unknown);
        }
        (self.width, self.height, self.is_progressive) = (width, height, is_progressive);
        for part in parts.chunks_exact(3).take(count) {
            let (across, down) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) {
                return Err(Stop::Damaged);
            }
            self.components.push(FrameComponent { id: part[0], across, down, ..FrameComponent::default() });
        }
        let [units_across, units_down] = self.units();
        let [most_across, most_down] = self.sampling();
        for component in &mut self.components {
            component.own_blocks = [
                (width * component.across).div_ceil(8 * most_across),
                (height * component.down).div_ceil(8 * most_down),
            ];
            component.row_blocks = units_across * component.across;
            component.lacks = vec![14; BLOCK];
            if is_progressive {
                component.nonzero = vec![0; component.row_blocks * units_down * component.down];
            }
        }
        Ok(())
    }

    fn sampling(&self) -> [usize; 2] {
        let most = |of: fn(&FrameComponent) -> usize| self.components.iter().map(of).max().unwrap_or(1);
        [most(|component| component.across), most(|component| component.down)]
    }

    /// Minimum coded units of a scan of several components (A.2.3).
    fn units(&self) -> [usize; 2] {
        let [across, down] = self.sampling();
        [self.width.div_ceil(8 * across), self.height.div_ceil(8 * down)]
    }

    /// B.2.4.2
    fn tables(&mut self, mut segment: &[u8]) -> Result<(), Stop> {
        while let Some((head, rest)) = segment.split_first_chunk::<17>() {
            let counts = &head[1..];
            let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = rest.get(..total).ok_or(Stop::Damaged)?;
            let codes = HuffmanCodes::new(counts, symbols).ok_or(Stop::Damaged)?;
            let tables = if head[0] >> 4 == 0 { &mut self.direct } else { &mut self.alternating };
            *tables.get_mut(usize::from(head[0] & 15)).ok_or(Stop::Damaged)? = Some(codes);
            segment = &rest[total..];
        }
        Ok(())
    }

    /// B.2.3
    fn scan_parameters(&self, segment: &[u8]) -> Result<ScanParameters, Stop> {
        let (count, rest) = segment.split_first().ok_or(Stop::Damaged)?;
        let count = usize::from(*count);
        let (parts, rest) = rest.split_at_checked(2 * count).ok_or(Stop::Damaged)?;
        let [first, last, bits, ..] = *rest else { return Err(Stop::Damaged) };
        let components = parts.chunks_exact(2).map(|part| {
            let component = self.components.iter().position(|component| component.id == part[0]);
            Ok((component.ok_or(Stop::Damaged)?, usize::from(part[1] >> 4 & 3), usize::from(part[1] & 3)))
        });
        let components: Vec<_> = components.collect::<Result<_, Stop>>()?;
        let (first, last, high, low) = if self.is_progressive {
            (usize::from(first), usize::from(last), bits >> 4, bits & 15)
        } else {
            (0, BLOCK - 1, 0, 0)
        };
        let sound = first <= last && last < BLOCK && low <= 13 && high <= 14;
        // AC coefficients of progressive pictures come in scans of one component.
        let is_mixed = self.is_progressive && first == 0 && last != 0;
        let is_shared = self.is_progressive && first > 0 && components.len() != 1;
        if components.is_empty() || components.len() > COMPONENTS_MAX || !sound || is_mixed || is_shared {
            return Err(Stop::Damaged);
        }
        Ok(ScanParameters { components, first, last, high, low })
    }

    fn scan(&mut self, scan: &ScanParameters) -> Result<(), Stop> {
        (self.bits, self.bit_count, self.made_up, self.end_of_band) = (0, 0, 0, 0);
        let [across, down] = match scan.components[..] {
            [(only, ..)] => self.components[only].own_blocks,
            _ => self.units(),
        };
        let mut until_restart = self.restart_interval;
        for unit in 0..across * down {
            if self.restart_interval > 0 && until_restart == 0 {
                self.restart()?;
                until_restart = self.restart_interval;
            }
            until_restart = until_restart.saturating_sub(1);
            let (column, row) = (unit % across, unit / across);
            if let [(only, direct, alternating)] = scan.components[..] {
                let block = row * self.components[only].row_blocks + column;
                self.block(scan, only, [direct, alternating], block)?;
                continue;
            }
            for &(component, direct, alternating) in &scan.components {
                let FrameComponent { across, down, row_blocks, .. } = self.components[component];
                for place in 0..across * down {
                    let line = row * down + place / across;
                    let block = line * row_blocks + column * across + place % across;
                    self.block(scan, component, [direct, alternating], block)?;
                }
            }
        }
        for (component, ..) in &scan.components {
            self.components[*component].lacks[scan.first..=scan.last].fill(scan.low);
        }
        Ok(())
    }

    /// Passes over the rest of the bits and the restart marker.
    fn restart(&mut self) -> Result<(), Stop> {
        (self.bits, self.bit_count, self.made_up, self.end_of_band) = (0, 0, 0, 0);
        let marker = self.marker()?;
        match marker {
            0xd0..=0xd7 => Ok(()),
            END_OF_IMAGE => Err(Stop::Ends),
            _ => Err(Stop::Damaged),
        }
    }

    fn block(&mut self, scan: &ScanParameters, component: usize, tables: [usize; 2], block: usize) -> Result<(), Stop> {
        if !self.is_progressive {
            return self.sequential_block(tables);
        }
        if scan.first == 0 {
            if scan.high == 0 {
                let size = self.symbol_of(Band::Direct, tables[0])?;
                self.skip(u32::from(size.min(16)))
            } else {
                self.skip(1)
            }
        } else if scan.high == 0 {
            self.band(scan, component, tables[1], block)
        } else {
            self.refinement(scan, component, tables[1], block)
        }
    }

    /// F.2.2
    fn sequential_block(&mut self, [direct, alternating]: [usize; 2]) -> Result<(), Stop> {
        let size = self.symbol_of(Band::Direct, direct)?;
        self.skip(u32::from(size.min(16)))?;
        let mut at = 1;
        while at < BLOCK {
            let symbol = self.symbol_of(Band::Alternating, alternating)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => at += 16,
                (_, 0) => break,
                _ => {
                    at += run + 1;
                    self.skip(size)?;
                }
            }
        }
        // The decoder forgives a run over the end of the block.
        Ok(())
    }

    /// G.1.2.2
    fn band(&mut self, scan: &ScanParameters, component: usize, table: usize, block: usize) -> Result<(), Stop> {
        if self.end_of_band > 0 {
            self.end_of_band -= 1;
            return Ok(());
        }
        let mut at = scan.first;
        while at <= scan.last {
            let symbol = self.symbol_of(Band::Alternating, table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => at += 16,
                (run, 0) => {
                    #[expect(clippy::cast_possible_truncation, reason = "below 15")]
                    let run = run as u32;
                    self.end_of_band = (1 << run) - 1 + self.take_bits(run)?;
                    break;
                }
                _ => {
                    at += run;
                    self.skip(size)?;
                    self.mark(component, block, at);
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// G.1.2.3
    fn refinement(&mut self, scan: &ScanParameters, component: usize, table: usize, block: usize) -> Result<(), Stop> {
        let nonzero = self.components[component].nonzero.get(block).copied().unwrap_or_default();
        let mut at = scan.first;
        if self.end_of_band == 0 {
            while at <= scan.last {
                let symbol = self.symbol_of(Band::Alternating, table)?;
                let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
                if size == 0 && run < 15 {
                    self.end_of_band = (1 << run) + self.take_bits(run)?;
                    break;
                }
                if size != 0 {
                    self.skip(1)?;
                }
                while at <= scan.last {
                    if nonzero >> at & 1 == 1 {
                        self.skip(1)?;
                    } else if run == 0 {
                        if size != 0 {
                            self.mark(component, block, at);
                        }
                        at += 1;
                        break;
                    } else {
                        run -= 1;
                    }
                    at += 1;
                }
            }
        }
        if self.end_of_band > 0 {
            for at in at..=scan.last {
                if nonzero >> at & 1 == 1 {
                    self.skip(1)?;
                }
            }
            self.end_of_band -= 1;
        }
        Ok(())
    }

    fn mark(&mut self, component: usize, block: usize, at: usize) {
        if let Some(nonzero) = self.components[component].nonzero.get_mut(block)
            && at < BLOCK
        {
            *nonzero |= 1 << at;
        }
    }

    fn symbol_of(&mut self, band: Band, table: usize) -> Result<u8, Stop> {
        self.fill(16);
        let codes = match band {
            Band::Direct => &self.direct[table],
            Band::Alternating => &self.alternating[table],
        };
        let codes = codes.as_ref().ok_or(Stop::Damaged)?;
        // Made-up bits are no code.
        let invalid = if self.made_up > 0 { Stop::Ends } else { Stop::Damaged };
        let (symbol, length) = codes.symbol(self.bits >> (self.bit_count - 16) & 0xffff).ok_or(invalid)?;
        self.skip(u32::from(length))?;
        Ok(symbol)
    }

    fn skip(&mut self, count: u32) -> Result<(), Stop> {
        self.take_bits(count).map(|_| ())
    }

    /// Up to 16 bits.
    fn take_bits(&mut self, count: u32) -> Result<u32, Stop> {
        self.fill(count);
        self.bit_count -= count;
        if self.bit_count < self.made_up {
            return Err(Stop::Ends);
        }
        Ok(self.bits >> self.bit_count & ((1 << count) - 1))
    }

    /// Reads bytes until so many bits are there, at most 16; behind a marker or the end, zeros.
    fn fill(&mut self, count: u32) {
        while self.bit_count < count {
            let byte = match self.bytes.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([byte, ..]) if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                // Fill bytes may stand before a marker.
                Some([0xff, 0xff, ..]) => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    self.made_up += 8;
                    0
                }
            };
            self.bits = self.bits << 8 | u32::from(byte);
            self.bit_count += 8;
        }
    }

    fn has_all_components(&self) -> bool {
        !self.components.is_empty() && self.components.iter().all(|component| component.lacks[0] < 14)
    }

    /// Whether no scan can add anything.
    fn is_complete(&self) -> bool {
        !self.components.is_empty()
            && self.components.iter().all(|component| component.lacks.iter().all(|bits| *bits == 0))
    }
}

/// Which of a scan's two tables is meant.
#[derive(Clone, Copy)]
enum Band {
    Direct,
    Alternating,
}

impl HuffmanCodes {
    /// From the number of codes of each length, 1 to 16. None when the codes do not fit.
    fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let (mut largest, mut offset) = ([-1_i32; 17], [0_i32; 17]);
        let mut lookup = vec![(0, 0); 1 << LOOKUP_BITS];
        let (mut code, mut index) = (0_usize, 0_usize);
        for (length, count) in (1_usize..=16).zip(counts) {
            let count = usize::from(*count);
            if code + count > 1 << length {
                return None;
            }
            offset[length] = i32::try_from(index).ok()? - i32::try_from(code).ok()?;
            if let Some(spare) = (LOOKUP_BITS as usize).checked_sub(length) {
                for at in 0..count {
                    let first = (code + at) << spare;
                    lookup[first..first + (1 << spare)].fill((symbols[index + at], u8::try_from(length).ok()?));
                }
            }
            (code, index) = (code + count, index + count);
            if count > 0 {
                largest[length] = i32::try_from(code).ok()? - 1;
            }
            code <<= 1;
        }
        Some(Self { lookup, largest, offset, symbols: symbols.to_vec() })
    }

    /// Symbol and length of the code at the front of 16 bits.
    fn symbol(&self, bits: u32) -> Option<(u8, u8)> {
        let (symbol, length) = self.lookup[(bits >> (16 - LOOKUP_BITS)) as usize];
        if length > 0 {
            return Some((symbol, length));
        }
        for length in LOOKUP_BITS + 1..=16 {
            let code = i32::try_from(bits >> (16 - length)).ok()?;
            if code <= self.largest[length as usize] {
                let index = usize::try_from(code + self.offset[length as usize]).ok()?;
                return Some((*self.symbols.get(index)?, u8::try_from(length).ok()?));
            }
        }
        None
    }
}
