// Follows a log: what a step writes is put behind what is there, in blocks of lines, and the page stays at
// its end as long as it is looked at there.

const BLOCK = 500 // lines; the server makes blocks of the same size
const BLOCKS = 60 // at most so many: older ones go, the whole text has them

const log = document.getElementById('log')
const state = document.getElementById('live-state')
const waiting = []
let block = log.lastElementChild ?? log.appendChild(document.createElement('div'))
let lines = block.textContent.split('\n').length - 1
let drawing = false
let moved = false
let follows = true

const source = new EventSource(log.dataset.live)
source.addEventListener('text', (event) => {
  waiting.push(...JSON.parse(event.data))
  if (!drawing) {
    drawing = true
    setTimeout(draw, 30)
  }
})
source.addEventListener('end', (event) => {
  source.close()
  if (waiting.length) draw()
  state.textContent = 'complete'
  if (event.data !== '0') offerNext(log.dataset.next + event.data)
})
source.addEventListener('error', () => {
  state.textContent = 'still being written; the connection is lost and tried again'
})
source.addEventListener('open', () => {
  state.textContent = 'being written now, and followed'
})
addEventListener('wheel', () => (moved = true), { passive: true })
addEventListener('keydown', () => (moved = true))
addEventListener('touchmove', () => (moved = true), { passive: true })
addEventListener('scroll', () => moved && (follows = isAtEnd()), { passive: true })
// Blocks out of sight have a guessed height: the page grows when they come into sight.
new ResizeObserver(() => follows && toEnd()).observe(document.documentElement)
toEnd()

function isAtEnd() {
  const page = document.documentElement
  return page.scrollHeight - page.scrollTop - page.clientHeight < 120
}

function toEnd() {
  scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })
}

function draw() {
  drawing = false
  follows = !moved || isAtEnd()
  for (const { class: name, text } of waiting.splice(0)) put(name, text)
  while (log.childElementCount > BLOCKS) {
    log.firstElementChild.remove()
    document.getElementById('dropped').hidden = false
  }
  if (follows) toEnd()
}

function put(name, text) {
  let rest = text
  while (rest) {
    let end = -1
    let count = lines
    do {
      end = rest.indexOf('\n', end + 1)
      if (end >= 0) count += 1
    } while (end >= 0 && count < BLOCK)
    const piece = end < 0 ? rest : rest.slice(0, end + 1)
    rest = rest.slice(piece.length)
    block.append(name ? styled(name, piece) : piece)
    lines = count
    if (lines >= BLOCK) {
      block = log.appendChild(document.createElement('div'))
      lines = 0
    }
  }
}

function styled(name, text) {
  const span = document.createElement('span')
  span.className = name
  span.textContent = text
  return span
}

function offerNext(address) {
  const link = document.createElement('a')
  link.href = address
  link.textContent = 'Go on to the next step'
  const place = document.getElementById('next-step')
  place.append(link)
  place.hidden = false
}
