"""What is measured in the page, in JavaScript: sizes, cut-off content, contrast."""

# Each takes the selector of the visible notebook and returns one entry per cell, in order.

# heights in pixels of what is shown of the cell's own text or code, and of the area that notebooks scroll in
HEIGHTS = """panel => {
    const at = document.querySelector(panel)
    const area = at.querySelector('.jp-WindowedPanel-outer').clientHeight
    const cells = [...at.querySelectorAll('.jp-Notebook .jp-Cell')]
    const input = cell => cell.querySelector('.jp-Cell-inputArea, .jp-InputPlaceholder')
    return cells.map(cell => [input(cell).getBoundingClientRect().height, area])
}"""

# how often the kernel had run a cell when it ran this one: the number in front of it, also of a folded one
COUNTS = "() => jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.executionCount ?? null)"

# what sticks out to the right of its cell, and what a box hides; outputs may scroll sideways, texts may not
CUT_OFF = """panel => {
    const scrolls = node => ['auto', 'scroll'].includes(getComputedStyle(node).overflowX)
    const reachable = (node, cell) => {
        for (let box = node.parentElement; box !== cell; box = box.parentElement) {
            if (scrolls(box)) return !node.closest('.jp-RenderedMarkdown')
        }
        return false
    }
    const cells = [...document.querySelectorAll(`${panel} .jp-Notebook .jp-Cell`)]
    return cells.map(cell => {
        const edge = cell.getBoundingClientRect().right + 1
        const beyond = node => node.getBoundingClientRect().width && node.getBoundingClientRect().right > edge
        const hidden = node => node.scrollWidth > node.clientWidth + 2 && node.clientWidth > 20
            && ['hidden', 'clip'].includes(getComputedStyle(node).overflowX)
        const ours = [...cell.querySelectorAll('.jp-RenderedMarkdown *, .jp-OutputArea-output *, .jp-Editor')]
        return ours.filter(node => hidden(node) || (beyond(node) && !reachable(node, cell)))
            .map(node => `${node.tagName}.${node.className}: ${(node.textContent || '').slice(0, 40)}`)
    })
}"""

# the lowest contrast (WCAG 2.2, 1.4.3) between a text and what is behind it, and that text
CONTRAST = """panel => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
    const known = {}
    const rgba = colour => {
        if (!(colour in known)) {
            canvas.clearRect(0, 0, 1, 1)
            canvas.fillStyle = colour
            canvas.fillRect(0, 0, 1, 1)
            known[colour] = [...canvas.getImageData(0, 0, 1, 1).data]
        }
        return known[colour]
    }
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
    const light = colour => {
        const [x, y, z] = colour.map(v => linear(v / 255))
        return 0.2126 * x + 0.7152 * y + 0.0722 * z
    }
    const behind = node => {
        for (let box = node; box; box = box.parentElement) {
            const colour = rgba(getComputedStyle(box).backgroundColor)
            if (colour[3] > 250) return colour
        }
        return [255, 255, 255, 255]
    }
    const ratio = node => {
        const [one, two] = [light(rgba(getComputedStyle(node).color)), light(behind(node))]
        return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05)
    }
    const speaks = node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())
    return [...document.querySelectorAll(`${panel} .jp-Notebook .jp-Cell`)].map(cell => {
        const texts = [...cell.querySelectorAll('.jp-RenderedMarkdown *, .jp-OutputArea-output *')]
        // the colours of a traceback are IPython's
        const ours = texts.filter(node => speaks(node) && !node.matches('pre span'))
        const found = ours.map(node => [ratio(node), node.textContent.trim().slice(0, 40)])
        return found.sort((one, two) => one[0] - two[0])[0] || [21, '']
    })
}"""

# pictures that are really drawn, and widgets with a size, in the outputs
SHOWN = """panel => [...document.querySelectorAll(`${panel} .jp-Notebook .jp-Cell`)].map(cell => {
    const all = what => [...cell.querySelectorAll(`.jp-OutputArea-output ${what}`)]
    const count = (what, good) => all(what).filter(good).length
    const sized = node => {
        const {width, height} = node.getBoundingClientRect()
        return width > 10 && height > 10
    }
    return {
        pictures: count('img', node => node.naturalWidth > 10 && sized(node)) + count('svg', sized),
        widgets: count('.jupyter-widgets', sized),
        buttons: all('.widget-toggle-button').map(node => node.innerText.trim()),
        text: [...cell.querySelectorAll('.jp-OutputArea-output')]
            .map(node => node.innerText).join('\\n'),
    }
})"""

# the outputs as the page holds them, in the notebook's format
OUTPUTS = """() => jupyterapp.shell.currentWidget.content.widgets
    .map(cell => cell.outputArea ? cell.outputArea.model.toJSON() : [])"""
